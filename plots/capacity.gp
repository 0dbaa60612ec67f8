# size 1000 420
CAPTION = captioned(sprintf('x%g to x%g rate', RATE_MIN, RATE_MAX))
set logscale x
set xlabel "requests per second offered, and times the trace's rate" offset 0, -1.1
stats DATA index FIRST3 using 2 nooutput
LO = STATS_min; HI = STATS_max; MARKS = STATS_records
# names of neighbours must not touch: a panel has room for about nine
set xtics ('' LO) nomirror
GAP = log(HI / LO) / 9; LAST = log(LO) - 2 * GAP
do for [k=0:MARKS - 1] {
    stats DATA index FIRST3 using 2:3 every ::k::k nooutput
    if (log(STATS_min_x) - LAST > GAP * 0.99) {
        set xtics add (sprintf("%.3g\nx%.3g", STATS_min_x, STATS_min_y) STATS_min_x); LAST = log(STATS_min_x)
    } else { set xtics add ('' STATS_min_x) }
}
set xrange [LO / (HI / LO) ** 0.05 : HI * (HI / LO) ** 0.05]
set multiplot layout 1, 2 margins 0.07, RIGHT, 0.27, 0.84 spacing 0.075
eval(headline)
unset key
eval(panel(1, 'requests within the SLO'))
set format y '%g %%'
set yrange [0:104]; set ytics 0, 20, 100
set arrow 1 from graph 0, first SLO_SHARE to graph 1, first SLO_SHARE nohead dt 2 lc rgb '#777777' back
set label 2 sprintf('%g %%', SLO_SHARE) at graph 0, first SLO_SHARE left offset 0.4, -0.6 font ',8' textcolor rgb '#666666'
plot for [i=1:N2] DATA index FIRST2 + i - 1 using 2:3 with lines \
        lc rgb color(COLOR[S2[i]]) dt dash(COLOR[S2[i]]) lw width(i, N2) notitle, \
    for [i=1:N2] DATA index FIRST2 + i - 1 using 2:3:4:5 with yerrorbars \
        lc rgb color(COLOR[S2[i]]) pt point(COLOR[S2[i]]) ps 1.0 lw 1 notitle
eval(headoff)
eval(slo_off)
eval(panel(1, 'goodput: requests per second within the SLO'))
set autoscale y                         # stats looks only at what is in range
stats DATA index FIRST2:FIRST2 + N2 - 1 using 7 nooutput
set yrange [0:(STATS_max > 0 ? STATS_max * 1.12 : 1)]; set ytics autofreq; set format y '%g'
set key at screen RIGHT + 0.015, screen 0.84 left top Left reverse vertical maxrows 40
plot DATA index FIRST3 using 2:2 with lines lc rgb '#999999' dt 3 lw 1 title 'all that is offered', \
    for [i=1:N2] DATA index FIRST2 + i - 1 using 2:7 with lines \
        lc rgb color(COLOR[S2[i]]) dt dash(COLOR[S2[i]]) lw width(i, N2) notitle, \
    for [i=1:N2] DATA index FIRST2 + i - 1 using 2:7 with points \
        lc rgb color(COLOR[S2[i]]) pt point(COLOR[S2[i]]) ps 1.0 title LABEL[S2[i]]
unset multiplot
