# style.gp - the look of every figure: Okabe-Ito without its yellow, a point type and a dash per strategy
# so that print without colour still tells them apart, a light grid at the back, the key outside.
# Before it: NAME, TITLE, CAPTION, STAMP (who drew it, or nothing), DATA, W, H and the arrays of the
# figure's tables (harness/figures.c).
if (!exists("FORMAT")) FORMAT = 'svg'
if (!exists("STAMP")) STAMP = ''
set encoding utf8
if (FORMAT eq 'png') {
    set terminal pngcairo size W * 3 / 2, H * 3 / 2 font 'DejaVu Sans,9' fontscale 1.5 linewidth 1.5 background 'white'
} else {
    set terminal svg dynamic size W, H name NAME font 'DejaVu Sans,sans-serif,11' background 'white'
}
set output NAME.'.'.FORMAT
set datafile missing 'NaN'
unset title

COLORS = "0072B2 D55E00 009E73 CC79A7 E69F00 56B4E9 000000 999999"
POINTS = "7 5 9 11 13 4 6 8 10 12 14 1 2 3"
DASHES = "1 2 4 3 5"
color(c) = "#".word(COLORS, int(c) % 8 + 1)
point(c) = int(word(POINTS, int(c) % 14 + 1))
# the second time round the eight colours come dashed
dash(c) = int(word(DASHES, int(c) / 8 % 5 + 1))
PREFILL = "#E69F00"; DECODE = "#0072B2"; QUEUE = "#999999"; LOST = "#D55E00"; GREEN = "#009E73"

set border 3 lc rgb '#444444'
set tics out nomirror textcolor rgb '#222222'
set grid back lc rgb '#e2e2e2' lt 1 lw 0.6
set key outside right top Left reverse noenhanced samplen 2 spacing 1.15 font ',9'
set style fill solid 1.0 noborder
# title above, caption below: in screen coordinates, so they are set for one panel of a multiplot only
headline = "set label 901 TITLE at screen 0.012, screen 0.962 left noenhanced font ',13'; \
set label 902 CAPTION at screen 0.012, screen 0.022 left noenhanced font ',8' textcolor rgb '#666666'; \
set label 903 STAMP at screen 0.988, screen 0.972 right noenhanced font ',8' textcolor rgb '#666666'"
headoff = "unset label 901; unset label 902; unset label 903"
# left-aligned name of a panel; needs a top margin
panel(i, text) = sprintf("set label %d '%s' at graph 0, graph 1 offset 0, 0.8 left noenhanced font ',10'", i, text)
# where panels end, so that the longest name of the key fits beside them
LONGEST = 0
do for [i=1:|LABEL|] { LONGEST = strlen(LABEL[i]) > LONGEST ? strlen(LABEL[i]) : LONGEST }
RIGHT = 1 - (LONGEST * 6.9 + 62) / W
# curves may lie on one another: the earlier ones are broader and look out
width(i, n) = 3.0 - 1.8 * i / n
mstics = "set xtics ('1 ms' 1, '10 ms' 10, '100 ms' 100, '1 s' 1000, '10 s' 1e4, '100 s' 1e5, '1000 s' 1e6)"
# more than four decades: names of all would touch
mstics_far = "set xtics ('1 ms' 1, '' 10, '100 ms' 100, '' 1000, '10 s' 1e4, '' 1e5, '1000 s' 1e6)"
mstics_for(lo, hi) = ceil10(hi) / floor10(lo) > 2e4 ? mstics_far : mstics
msticsy = "set ytics ('1 ms' 1, '2 ms' 2, '5 ms' 5, '10 ms' 10, '20 ms' 20, '50 ms' 50, '100 ms' 100, \
'200 ms' 200, '500 ms' 500, '1 s' 1000, '2 s' 2000, '5 s' 5000, '10 s' 1e4, '20 s' 2e4, '50 s' 5e4, \
'100 s' 1e5, '200 s' 2e5, '500 s' 5e5, '1000 s' 1e6)"
# powers of four for token counts
tokens = "'1' 1, '4' 4, '16' 16, '64' 64, '256' 256, '1k' 1024, '4k' 4096, '16k' 16384, '64k' 65536, \
'256k' 262144, '1M' 1048576"
# A dashed line at a limit of the SLO, only where it lies within the panel: arrows are not clipped.
slo_x(v) = sprintf("set arrow 1 from %g, graph 0 to %g, graph 1 nohead dt 2 lc rgb '#777777' back; \
set label 2 'SLO' at %g, graph 0.03 left offset 0.4, 0 font ',8' textcolor rgb '#666666'", v, v, v)
slo_y(v) = sprintf("set arrow 1 from graph 0, first %g to graph 1, first %g nohead dt 2 lc rgb '#777777' back; \
set label 2 'SLO' at graph 0.99, first %g right offset 0, 0.5 font ',8' textcolor rgb '#666666'", v, v, v)
slo_off = "unset arrow 1; unset label 2"
# the full decades around the smallest and largest value
floor10(v) = 10 ** floor(log10(v)); ceil10(v) = 10 ** ceil(log10(v))
