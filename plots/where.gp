# size 1000 420
# Table 1 is key and data at once: one row (and one block) per strategy.
set yrange [0.4:N1 + 0.6]
set grid noy
LEFT = (LONGEST * 6.9 + 20) / W
set lmargin at screen LEFT
set multiplot
set ytics ('' 1) scale 0
do for [i=1:N1] { set ytics add (LABEL[i] i) }
set ytics font ',9' noenhanced
set tmargin at screen 0.80; set bmargin at screen 0.17; set rmargin at screen 0.62
set xrange [0:*]
set xlabel 'ms per request, mean' offset 0, 0.4
set boxwidth 0.7
eval(headline)
set key at screen LEFT, screen 0.885 left top horizontal Left reverse samplen 1 maxrows 1
plot for [i=FIRST1:FIRST1 + N1 - 1] DATA index i using (0):1:(0):4:($1 - 0.36):($1 + 0.36) with boxxyerror fc rgb QUEUE notitle, \
     for [i=FIRST1:FIRST1 + N1 - 1] DATA index i using (0):1:4:($4 + $5):($1 - 0.36):($1 + 0.36) with boxxyerror fc rgb PREFILL notitle, \
     for [i=FIRST1:FIRST1 + N1 - 1] DATA index i using (0):1:($4 + $5):($4 + $5 + $6):($1 - 0.36):($1 + 0.36) with boxxyerror fc rgb DECODE notitle, \
     for [i=FIRST1:FIRST1 + N1 - 1] DATA index i using (0):1:($4 + $5 + $6):($4 + $5 + $6 + $7):($1 - 0.36):($1 + 0.36) with boxxyerror fc rgb LOST notitle, \
     keyentry with boxes fc rgb QUEUE title 'queue', keyentry with boxes fc rgb PREFILL title 'prefill', \
     keyentry with boxes fc rgb DECODE title 'decode', keyentry with boxes fc rgb LOST title 'preempted'
eval(headoff)
# without rows of steps nobody knows why requests waited
if (ROWS1 > 0) {
set lmargin at screen 0.66; set rmargin at screen 0.985
set ytics ('' 1)
set xlabel 'requests waiting while a step runs, mean, by reason'
set key at screen 0.645, screen 0.945 left top horizontal Left reverse samplen 0.8 maxrows 2 width -1
plot for [i=FIRST1:FIRST1 + N1 - 1] DATA index i using (0):1:(0):8:($1 - 0.36):($1 + 0.36) with boxxyerror fc rgb "#D55E00" notitle, \
     for [i=FIRST1:FIRST1 + N1 - 1] DATA index i using (0):1:8:($8 + $9):($1 - 0.36):($1 + 0.36) with boxxyerror fc rgb "#E69F00" notitle, \
     for [i=FIRST1:FIRST1 + N1 - 1] DATA index i using (0):1:($8 + $9):($8 + $9 + $10):($1 - 0.36):($1 + 0.36) with boxxyerror fc rgb "#56B4E9" notitle, \
     for [i=FIRST1:FIRST1 + N1 - 1] DATA index i using (0):1:($8 + $9 + $10):($8 + $9 + $10 + $11):($1 - 0.36):($1 + 0.36) with boxxyerror fc rgb "#CC79A7" notitle, \
     for [i=FIRST1:FIRST1 + N1 - 1] DATA index i using (0):1:($8 + $9 + $10 + $11):($8 + $9 + $10 + $11 + $12):($1 - 0.36):($1 + 0.36) with boxxyerror fc rgb "#EDB08A" notitle, \
     for [i=FIRST1:FIRST1 + N1 - 1] DATA index i using (0):1:($8 + $9 + $10 + $11 + $12):($8 + $9 + $10 + $11 + $12 + $13):($1 - 0.36):($1 + 0.36) with boxxyerror fc rgb "#BBBBBB" notitle, \
     keyentry with boxes fc rgb "#D55E00" title 'memory', keyentry with boxes fc rgb "#EDB08A" title 'behind it', \
     keyentry with boxes fc rgb "#E69F00" title 'token budget', keyentry with boxes fc rgb "#56B4E9" title 'batch full', \
     keyentry with boxes fc rgb "#CC79A7" title 'batch closed', \
     keyentry with boxes fc rgb "#BBBBBB" title 'the running step'
}
unset multiplot
