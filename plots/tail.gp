# size 1000 420
set logscale x
tail(q) = -log10(1 - q)
set yrange [0:*]
set ytics ('0' 0, '50' tail(0.5), '90' tail(0.9), '95' tail(0.95), '99' tail(0.99), '99.9' tail(0.999))
set multiplot layout 1, 3 margins 0.07, RIGHT, 0.155, 0.84 spacing 0.045
eval(headline)
set ylabel '% of requests at or below'
unset key
stats DATA index FIRST2:FIRST2 + N2 - 1 using 2 nooutput
eval(mstics_for(STATS_min, STATS_max))
if (SLO_TTFT > floor10(STATS_min) && SLO_TTFT < ceil10(STATS_max)) { eval(slo_x(SLO_TTFT)) }
eval(panel(1, 'time to first token'))
plot for [i=1:N2] DATA index FIRST2 + i - 1 using 2:(tail($3)) with fsteps \
    lc rgb color(COLOR[S2[i]]) dt dash(COLOR[S2[i]]) lw width(i, N2) notitle
eval(headoff)
eval(slo_off)
unset ylabel; set format y ''
set ytics ('' 0, '' tail(0.5), '' tail(0.9), '' tail(0.95), '' tail(0.99), '' tail(0.999))
eval(panel(1, 'time per output token'))
if (ROWS3 == 0) { set xrange [1:100]; set yrange [0:1]; plot NaN notitle } else {
stats DATA index FIRST3:FIRST3 + N3 - 1 using 2 nooutput
eval(mstics_for(STATS_min, STATS_max))
if (SLO_TPOT > floor10(STATS_min) && SLO_TPOT < ceil10(STATS_max)) { eval(slo_x(SLO_TPOT)) }
plot for [i=1:N3] DATA index FIRST3 + i - 1 using 2:(tail($3)) with fsteps \
    lc rgb color(COLOR[S3[i]]) dt dash(COLOR[S3[i]]) lw width(i, N2) notitle
}
eval(slo_off)
set xrange [*:*]; set yrange [0:*]
eval(panel(1, 'end to end'))
set key at screen RIGHT + 0.015, screen 0.84 left top Left reverse vertical maxrows 40
if (ROWS4 == 0) { set xrange [1:100]; set yrange [0:1]; plot NaN notitle } else {
stats DATA index FIRST4:FIRST4 + N4 - 1 using 2 nooutput
eval(mstics_for(STATS_min, STATS_max))
if (SLO_E2E > floor10(STATS_min) && SLO_E2E < ceil10(STATS_max)) { eval(slo_x(SLO_E2E)) }
plot for [i=1:N4] DATA index FIRST4 + i - 1 using 2:(tail($3)) with fsteps \
    lc rgb color(COLOR[S4[i]]) dt dash(COLOR[S4[i]]) lw width(i, N2) title LABEL[S4[i]]
}
unset multiplot
