# size 1000 460
# title: What a precision costs in quality, against speed and bytes
set multiplot layout 1, 2
eval(headline)
# Losses span three decades and cross zero: asinh is linear near zero and logarithmic far from it.
set nonlinear y via asinh(5 * y) inverse sinh(y) / 5
set ytics ('-10' -10, '-1' -1, '-0.1' -0.1, '0' 0, '0.1' 0.1, '1' 1, '10' 10, '100' 100, '1000' 1000); set grid y
set key at screen 0.985, screen 0.965 right top horizontal
do for [side=1:2] {
    set tmargin at screen 0.86; set bmargin at screen 0.17
    set lmargin at screen (side == 1 ? 0.075 : 0.575); set rmargin at screen (side == 1 ? 0.485 : 0.985)
    set xlabel (side == 1 ? 'decoded tokens/s (batch of the greedy answers)' : 'weights, MB (scales included)')
    set ylabel (side == 1 ? 'perplexity over the reference, %' : '')
    set xrange [0:*]; set offsets graph 0, graph 0.16, graph 0.12, graph 0.03
    if (side == 2) { unset key }
    plot for [i=1:N2] DATA index FIRST2 + i - 1 using (column(side + 1)):4:5:6 with yerrorbars lw 1.5 pt point(COLOR[S2[i]]) \
             lc rgb color(COLOR[S2[i]]) title LABEL[S2[i]], \
         for [i=1:N2] DATA index FIRST2 + i - 1 using (column(side + 1)):4:7 with labels left offset 0.5, 0.3 rotate by 28 font ',8' \
             noenhanced notitle
    eval(headoff)
}
unset multiplot
