# size 1000 400
# title: Shortest first: what it gains, and who pays
set multiplot
eval(headline)
set tmargin at screen 0.82; set bmargin at screen 0.17
set xlabel 'load (arrival rate over what the server sustains)' offset 0, 0.4
set xrange [0.82:1.18]; set xtics 0.85, 0.15
set logscale y
set lmargin at screen 0.07; set rmargin at screen 0.42
eval(panel(3, 'mean normalized latency, s per token'))
unset key
plot for [i=1:N2] DATA index FIRST2 + i - 1 using 2:3 with linespoints lc rgb color(S2[i]-1) pt point(S2[i]-1) ps 0.8 lw 1.4
eval(headoff)
set lmargin at screen 0.50; set rmargin at screen 0.85
eval(panel(3, 'time to first token, s: P99 (lines), longest (dashed)'))
set key at screen 0.865, screen 0.82 left top Left reverse vertical
plot for [i=1:N2] DATA index FIRST2 + i - 1 using 2:5 with linespoints lc rgb color(S2[i]-1) pt point(S2[i]-1) ps 0.8 lw 1.4 title LABEL[i], \
     for [i=1:N2] DATA index FIRST2 + i - 1 using 2:6 with lines lc rgb color(S2[i]-1) dt 2 lw 1.2 notitle
unset multiplot
