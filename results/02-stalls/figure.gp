# size 1000 420
# title: The stutter: gaps between tokens against the rate
set multiplot
eval(headline)
set tmargin at screen 0.82; set bmargin at screen 0.16
set lmargin at screen 0.07; set rmargin at screen 0.40
set logscale y; eval(msticsy)
set xrange [0:*]; set xlabel 'requests per second' offset 0, 0.4
eval(panel(3, 'gap between tokens, P99'))
set arrow 1 from graph 0, first 100 to graph 1, first 100 nohead dt 2 lc rgb '#777777' back
set arrow 2 from graph 0, first 500 to graph 1, first 500 nohead dt 2 lc rgb '#777777' back
set label 4 'strict' at graph 0.02, first 100 left offset 0, 0.5 font ',8' textcolor rgb '#666666'
set label 5 'relaxed' at graph 0.02, first 500 left offset 0, 0.5 font ',8' textcolor rgb '#666666'
unset key
plot for [i=1:N2] DATA index FIRST2 + i - 1 using 2:3 with linespoints lc rgb color(S2[i]-1) pt point(S2[i]-1) ps 0.7 lw 1.4
eval(headoff)
unset arrow 1; unset arrow 2; unset label 4; unset label 5
set lmargin at screen 0.46; set rmargin at screen 0.77
eval(panel(3, 'time to first token, median'))
set key at screen 0.785, screen 0.82 left top Left reverse vertical
plot for [i=1:N2] DATA index FIRST2 + i - 1 using 2:4 with linespoints lc rgb color(S2[i]-1) pt point(S2[i]-1) ps 0.7 lw 1.4 title LABEL[i]
unset multiplot
