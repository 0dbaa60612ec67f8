# size 1000 420
if (RATE_MIN < RATE_MAX) CAPTION = captioned(sprintf('x%g to x%g rate', RATE_MIN, RATE_MAX))
set logscale y
eval(msticsy)
set xlabel 'output tokens per second'
set multiplot layout 1, 2 margins 0.07, RIGHT, 0.22, 0.84 spacing 0.075
# from 0, so that a percent does not look like a world; on the logarithmic axis full steps of 1, 2, 5, so that there are marks
set xrange [0:*]
low125(v) = v <= 0 ? 0.01 : (E = 10 ** floor(log10(v)), v >= 5 * E ? 5 * E : v >= 2 * E ? 2 * E : E)
high125(v) = v <= 0 ? 1 : (E = 10 ** floor(log10(v)), v < 2 * E ? 2 * E : v < 5 * E ? 5 * E : 10 * E)
set autoscale noextend
set offsets 0, graph 0.05, graph 0.06, 0
eval(headline)
unset key
eval(panel(1, sprintf('time to first token, %s', TAIL)))
stats DATA index FIRST2:FIRST2 + N2 - 1 using 6 nooutput
set yrange [low125(STATS_min):high125(STATS_max)]
if (SLO_TTFT > low125(STATS_min) && SLO_TTFT < high125(STATS_max)) { eval(slo_y(SLO_TTFT)) }
plot for [i=1:N2] DATA index FIRST2 + i - 1 using 2:6 with lines \
        lc rgb color(COLOR[S2[i]]) dt dash(COLOR[S2[i]]) lw 1.2 notitle, \
    for [i=1:N2] DATA index FIRST2 + i - 1 using 2:6:3:4 with xerrorbars \
        lc rgb color(COLOR[S2[i]]) pt point(COLOR[S2[i]]) ps 1.1 lw 1 notitle
eval(headoff)
eval(slo_off)
eval(panel(1, sprintf('time per output token, %s', TAIL)))
set ytics autofreq; set format y '%g ms'
set key at screen RIGHT + 0.015, screen 0.84 left top Left reverse vertical maxrows 40
unset logscale y
set yrange [0:*]
if (ROWS2 == 0) { set xrange [0:1]; set yrange [0:1]; plot NaN notitle } else {
stats DATA index FIRST2:FIRST2 + N2 - 1 using 7 nooutput
if (SLO_TPOT < STATS_max) { eval(slo_y(SLO_TPOT)) }
plot for [i=1:N2] DATA index FIRST2 + i - 1 using 2:7 with lines \
        lc rgb color(COLOR[S2[i]]) dt dash(COLOR[S2[i]]) lw 1.2 notitle, \
    for [i=1:N2] DATA index FIRST2 + i - 1 using 2:7 with points \
        lc rgb color(COLOR[S2[i]]) pt point(COLOR[S2[i]]) ps 1.1 title LABEL[S2[i]]
}
unset multiplot
