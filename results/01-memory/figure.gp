# size 1000 440
# title: Where the KV memory goes, and what a page table buys
set multiplot
eval(headline)
set lmargin at screen 0.075; set rmargin at screen 0.44; set tmargin at screen 0.80; set bmargin at screen 0.16
set yrange [0:100]; set xrange [0.4:N1 + 0.6]
set ylabel '% of KV memory at 2 req/s, while requests wait'
set xtics ('' 1) scale 0; set grid nox
do for [i=1:N1] { set xtics add (LABEL[i] i) }
set key at screen 0.075, screen 0.90 left top horizontal Left reverse samplen 1 maxrows 1
B = 0.36
plot DATA index FIRST2:FIRST2+N2-1 using 1:2:($1-B):($1+B):(0):2 with boxxyerror fc rgb DECODE title 'keys and values', \
     DATA index FIRST2:FIRST2+N2-1 using 1:2:($1-B):($1+B):2:($2+$3) with boxxyerror fc rgb '#56B4E9' title 'used later', \
     DATA index FIRST2:FIRST2+N2-1 using 1:2:($1-B):($1+B):($2+$3):($2+$3+$4) with boxxyerror fc rgb LOST title 'never used', \
     DATA index FIRST2:FIRST2+N2-1 using 1:2:($1-B):($1+B):($2+$3+$4):(100) with boxxyerror fc rgb '#dddddd' title 'too small or too late', \
     DATA index FIRST2:FIRST2+N2-1 using 1:(4):(sprintf('%.1f %%', $2)) with labels font ',9' textcolor rgb 'white' notitle, \
     DATA index FIRST2:FIRST2+N2-1 using 1:(12):(sprintf('batch %.1f', $6)) with labels font ',9' textcolor rgb 'white' notitle
eval(headoff)
set lmargin at screen 0.53; set rmargin at screen 0.86
set xrange [0:*]; set logscale y; set yrange [0.02:20]
set xtics autofreq scale 1; set grid
set xlabel 'requests per second' offset 0, 0.4
set ylabel 'seconds per output token, mean'
set ytics ('0.02' 0.02, '0.05' 0.05, '0.1' 0.1, '0.2' 0.2, '0.5' 0.5, '1' 1, '2' 2, '5' 5, '10' 10, '20' 20)
set arrow 1 from graph 0, first 0.5 to graph 1, first 0.5 nohead dt 2 lc rgb '#777777' back
set key at screen 0.875, screen 0.80 left top Left reverse vertical maxrows 40
plot for [i=1:N3] DATA index FIRST3 + i - 1 using 2:3 with linespoints lc rgb color(S3[i] - 1) \
     pt point(S3[i] - 1) ps 0.7 lw 1.4 notitle, \
     for [i=1:N1] NaN with linespoints lc rgb color(i - 1) pt point(i - 1) title LABEL[i], \
     NaN with linespoints lc rgb color(N1) pt point(N1) title 'static'
unset multiplot
