# size 1000 480
T = 0
do for [i=1:N2] { stats DATA index FIRST2 + i - 1 using 2 nooutput; T = STATS_max > T ? STATS_max : T }
set xrange [0:T]
set yrange [0:100]
set lmargin at screen 0.065; set rmargin at screen 0.815
set ylabel '% of KV memory'
set multiplot
eval(headline)
PAIR = N2 < 2 ? 1 : 2
do for [i=1:PAIR] {
    set tmargin at screen (i == 1 ? 0.86 : 0.45); set bmargin at screen (i < PAIR ? 0.55 : 0.14)
    set label 1 LABEL[i] at graph 0, graph 1 offset 0, 0.8 left noenhanced font ',10'
    if (i == PAIR) { set xlabel 'seconds' offset 0, 0.6 }
    if (i == 2) { unset key } else { set key at screen 0.83, screen 0.86 left top Left reverse invert }
    plot DATA index FIRST2 + i - 1 using 2:(100) with filledcurves y1=0 fc rgb '#f3f3f3' title 'free', \
         DATA index FIRST2 + i - 1 using 2:5 with filledcurves y1=0 fc rgb LOST title 'held, never used', \
         DATA index FIRST2 + i - 1 using 2:4 with filledcurves y1=0 fc rgb '#56B4E9' title 'held, used later', \
         DATA index FIRST2 + i - 1 using 2:3 with filledcurves y1=0 fc rgb DECODE title 'keys and values'
    eval(headoff)
}
unset multiplot
