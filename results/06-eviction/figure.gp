# size 1000 520
# title: Fill the memory and evict, or reserve and wait
set multiplot
eval(headline)
set tmargin at screen 0.84; set bmargin at screen 0.14
set yrange [N1 + 0.6:0.4]; set grid noy
set ytics ('' 1) scale 0 noenhanced
do for [i=1:N1] { set ytics add (LABEL[i] i) }
B = 0.36; unset key
set lmargin at screen 0.215; set rmargin at screen 0.445
set xrange [0:3.4]; set xtics rotate by 0 0, 1 font ',8'
eval(panel(3, 'tokens a second, first of the part = 1'))
plot DATA index FIRST2:FIRST2+N2-1 using (0):1:(0):2:($1-B):($1+B) with boxxyerror fc rgb DECODE, \
     DATA index FIRST2:FIRST2+N2-1 using 2:1:(sprintf(' %.2f', $2)) with labels left font ',8'
eval(headoff)
set ytics ('' 1)
set lmargin at screen 0.475; set rmargin at screen 0.705
set xtics 0, 5; set xrange [0:13]
eval(panel(3, 'P99 of TPOT, first of the part = 1'))
plot DATA index FIRST2:FIRST2+N2-1 using (0):1:(0):3:($1-B):($1+B) with boxxyerror fc rgb PREFILL, \
     DATA index FIRST2:FIRST2+N2-1 using 3:1:(sprintf(' %.1f', $3)) with labels left font ',8'
set lmargin at screen 0.735; set rmargin at screen 0.98
set xtics 0, 1000; set xrange [0:5500]
eval(panel(3, 'preemptions'))
plot DATA index FIRST2:FIRST2+N2-1 using (0):1:(0):4:($1-B):($1+B) with boxxyerror fc rgb LOST, \
     DATA index FIRST2:FIRST2+N2-1 using 4:1:(sprintf(' %.0f', $4)) with labels left font ',8'
unset multiplot
