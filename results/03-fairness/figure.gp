# size 1000 400
# title: Two tenants overload one server, one sends twice as much
stroke(k) = k % 2 ? 1 : 2
set multiplot
eval(headline)
set tmargin at screen 0.82; set bmargin at screen 0.17
set xlabel 'seconds' offset 0, 0.4
set lmargin at screen 0.07; set rmargin at screen 0.38
eval(panel(3, 'service received, thousand units'))
unset key
plot for [i=1:N3] DATA index FIRST3 + i - 1 using 2:3 with lines lc rgb color((S3[i] - 1) / 2) dt stroke(S3[i]) lw 1.6
eval(headoff)
set lmargin at screen 0.45; set rmargin at screen 0.78
eval(panel(3, 'gap between the two, thousand units'))
set key at screen 0.80, screen 0.82 left top Left reverse vertical
set arrow 1 from graph 0, first 40 to graph 1, first 40 nohead dt 2 lc rgb '#777777' back
set label 4 'bound' at graph 0.99, first 40 right offset 0, 0.5 font ',8' textcolor rgb '#666666'
set xrange [0:*]
plot for [i=1:N2] DATA index FIRST2 + i - 1 using 2:3 with linespoints lc rgb color(S2[i]-1) pt point(S2[i]-1) ps 0.6 lw 1.4 title LABEL[i], \
     NaN with lines lc rgb '#444444' dt 1 lw 1.6 title 'left: fast tenant', NaN with lines lc rgb '#444444' dt 2 lw 1.6 title 'left: slow tenant'
unset multiplot
