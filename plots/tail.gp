# size 1000 420
set logscale x
tail(q) = -log10(1 - q)
set yrange [0:*]
set ytics ('0' 0, '50' tail(0.5), '90' tail(0.9), '95' tail(0.95), '99' tail(0.99), '99.9' tail(0.999))
eval(mstics)
set multiplot layout 1, 3 margins 0.07, RIGHT, 0.155, 0.84 spacing 0.045
eval(headline)
set ylabel '% of requests at or below'
unset key
set arrow 1 from SLO_TTFT, graph 0 to SLO_TTFT, graph 1 nohead dt 2 lc rgb '#777777' back
if (SLO_TTFT <= 0) unset arrow 1
eval(panel(1, 'time to first token'))
plot for [i=1:N2] DATA index FIRST2 + i - 1 using 2:(tail($3)) with fsteps \
    lc rgb color(COLOR[S2[i]]) dt dash(COLOR[S2[i]]) lw width(i, N2) notitle
eval(headoff)
unset arrow 1
unset ylabel; set format y ''
set ytics ('' 0, '' tail(0.5), '' tail(0.9), '' tail(0.95), '' tail(0.99), '' tail(0.999))
if (SLO_TPOT > 0) set arrow 1 from SLO_TPOT, graph 0 to SLO_TPOT, graph 1 nohead dt 2 lc rgb '#777777' back
eval(panel(1, 'time per output token'))
plot for [i=1:N3] DATA index FIRST3 + i - 1 using 2:(tail($3)) with fsteps \
    lc rgb color(COLOR[S3[i]]) dt dash(COLOR[S3[i]]) lw width(i, N2) notitle
unset arrow 1
if (SLO_E2E > 0) set arrow 1 from SLO_E2E, graph 0 to SLO_E2E, graph 1 nohead dt 2 lc rgb '#777777' back
eval(panel(1, 'end to end'))
set key at screen RIGHT + 0.015, screen 0.84 left top Left reverse vertical maxrows 40
plot for [i=1:N4] DATA index FIRST4 + i - 1 using 2:(tail($3)) with fsteps \
    lc rgb color(COLOR[S4[i]]) dt dash(COLOR[S4[i]]) lw width(i, N2) title LABEL[S4[i]]
unset multiplot
