# size 1000 560
stats DATA index FIRST2 using 5 nooutput; T = STATS_max
if (N2 > 1) { stats DATA index FIRST2 + 1 using 5 nooutput; T = STATS_max > T ? STATS_max : T }
stats DATA index FIRST2 using 2 nooutput; SLOTS = STATS_max
if (N2 > 1) { stats DATA index FIRST2 + 1 using 2 nooutput; SLOTS = STATS_max > SLOTS ? STATS_max : SLOTS }
R = 1
do for [i=1:N3] {
    stats DATA index FIRST3 + i - 1 using ($3 > $4 ? $3 : $4) nooutput; R = STATS_max > R ? STATS_max : R
}
stats DATA index FIRST2 using 3 nooutput; T0 = STATS_min
if (N2 > 1) { stats DATA index FIRST2 + 1 using 3 nooutput; T0 = STATS_min < T0 ? STATS_min : T0 }
if (T0 < 0.05 * T) { T0 = 0 }
set xrange [T0:T]
L1 = 0.075; M1 = 0.515; L2 = 0.535; M2 = 0.985
set multiplot
eval(headline)
PAIR = N2 < 2 ? 1 : 2
if (PAIR == 1) { M1 = M2 }
do for [i=1:PAIR] {
    set lmargin at screen (i == 1 ? L1 : L2); set rmargin at screen (i == 1 ? M1 : M2)
    set tmargin at screen 0.87; set bmargin at screen 0.56
    unset xlabel; set format x ''
    set yrange [-0.6:SLOTS + 0.6]
    if (i == 1) { set ylabel 'batch slot'; set format y '%g' } else { unset ylabel; set format y '' }
    set label 1 LABEL[i] at graph 0, graph 1 offset 0, 0.8 left noenhanced font ',10'
    unset grid; unset key
    if (SLOTS < 12) { set ytics 0, 1 } else { set ytics autofreq }
    if (i == PAIR) { set key at screen 0.985, screen 0.945 right horizontal samplen 1 }
    plot DATA index FIRST2 + i - 1 using (($3 + $4) / 2):2:3:4:($2 - 0.42):($2 + 0.42) with boxxyerror fc rgb PREFILL title 'prefill', \
         DATA index FIRST2 + i - 1 using (($4 + $5) / 2):2:4:5:($2 - 0.42):($2 + 0.42) with boxxyerror fc rgb DECODE title 'decode'
    eval(headoff)
    unset label 1
    set grid back lc rgb '#e2e2e2' lt 1 lw 0.6
    set tmargin at screen 0.51; set bmargin at screen 0.345
    set yrange [0:R * 1.08]
    if (R < 6) { set ytics 0, 1 } else { set ytics autofreq }
    if (i == 1) { set ylabel 'requests' }
    if (i == PAIR) { set key at screen 0.985, screen 0.54 right horizontal samplen 2 }
    plot DATA index FIRST3 + i - 1 using 2:4 with lines lc rgb LOST lw 1.3 title 'waiting', \
         DATA index FIRST3 + i - 1 using 2:3 with lines lc rgb DECODE lw 1.6 title 'running'
    set tmargin at screen 0.29; set bmargin at screen 0.13
    set yrange [0:105]; set ytics 0, 50
    set xlabel 'seconds' offset 0, 0.6; set format x '%g'
    if (i == 1) { set ylabel 'KV memory, %' }
    if (i == PAIR) { set key at screen 0.985, screen 0.32 right horizontal samplen 2 }
    plot DATA index FIRST3 + i - 1 using 2:5 with filledcurves y1=0 fc rgb '#cfe3f0' title 'held', \
         DATA index FIRST3 + i - 1 using 2:6 with lines lc rgb DECODE lw 1.4 title 'filled'
}
unset multiplot
