# size 760 420
# title: How big must the prefix cache be?
eval(headline)
set tmargin at screen 0.82; set bmargin at screen 0.17; set lmargin at screen 0.10; set rmargin at screen 0.96
set logscale x
set xrange [0.7:140]; set yrange [0:*]
set xtics ('1M' 1, '3M' 3, '10M' 10, '30M' 30, '100M' 100)
set xlabel 'cache, tokens' offset 0, 0.4
set ylabel 'prompt tokens found in the cache, %'
set key at graph 0.03, graph 0.95 left top Left reverse
plot DATA index FIRST2 using 2:4 with lines lc rgb '#999999' dt 2 lw 2.5 title 'offline LRU over the same hashes', \
     DATA index FIRST2 using 2:3 with linespoints lc rgb color(0) pt 7 ps 1 lw 1.4 title LABEL[1]
