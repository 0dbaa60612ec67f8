# size 1240 520
# title: What a precision costs in quality, against speed and bytes
# Points carry numbers, the list at the right says which: names of twenty precisions have no room among the points.
# Losses span three decades and cross zero: asinh is linear near zero and logarithmic far from it.
bend(v) = asinh(5 * v); back(v) = sinh(v) / 5
MOST = 64                                       # precisions at most
array X[2 * MOST]; array Y[MOST]; array AT[MOST]; array NAME_OF[MOST]; array KIND[MOST]; array ORDER[MOST]
NP = 0; TOP = bend(1); LOW = bend(-0.3); array XMAX[2] = [0, 0]
take(n, x1, x2, y, lo, hi, name, kind) = (X[n] = x1, X[MOST + n] = x2, Y[n] = bend(y), NAME_OF[n] = name, KIND[n] = kind, \
    NP = n > NP ? n : NP, XMAX[1] = x1 > XMAX[1] ? x1 : XMAX[1], XMAX[2] = x2 > XMAX[2] ? x2 : XMAX[2], \
    TOP = bend(hi) > TOP ? bend(hi) : TOP, LOW = bend(lo) < LOW ? bend(lo) : LOW, n)
set table $READ
plot for [i=1:N2] DATA index FIRST2 + i - 1 using \
     (take(int($8), $2, $3, $4, $5, $6, stringcolumn(7), S2[i])):4
unset table
do for [i=1:NP] { ORDER[i] = i }                # by loss, the least first
do for [i=1:NP] { do for [j=1:NP-1] { if (Y[ORDER[j]] > Y[ORDER[j + 1]]) { t = ORDER[j]; ORDER[j] = ORDER[j + 1]; ORDER[j + 1] = t } } }
STEP = (TOP - LOW) * 0.034                      # what a number needs in height, and (of the width) beside it
WIDE = 0.045

set multiplot
eval(headline)
set nonlinear y via asinh(5 * y) inverse sinh(y) / 5
set ytics ('-10' -10, '-3' -3, '-1' -1, '-0.3' -0.3, '-0.1' -0.1, '0' 0, '0.1' 0.1, '0.3' 0.3, '1' 1, '3' 3, '10' 10, '30' 30, '100' 100, '300' 300, '1000' 1000); set grid y
set yrange [back(LOW - STEP):back(TOP + 3 * STEP)]
set tmargin at screen 0.86; set bmargin at screen 0.15
set key at screen 0.72, screen 0.945 right top horizontal
do for [side=1:2] {
    set lmargin at screen (side == 1 ? 0.058 : 0.405); set rmargin at screen (side == 1 ? 0.38 : 0.727)
    set xlabel (side == 1 ? 'decoded tokens/s (batch of the greedy answers)' : 'weights, MB (scales included)')
    set ylabel (side == 1 ? 'perplexity over the reference, %' : '')
    set xrange [0:XMAX[side] * 1.08]
    # each number beside its point, raised above those that are already there; a line where it had to move
    unset arrow
    do for [a=1:NP] {
        i = ORDER[a]; x = X[(side - 1) * MOST + i]; AT[i] = Y[i]
        do for [again=1:NP] { do for [b=1:a-1] {
            j = ORDER[b]
            if (abs(X[(side - 1) * MOST + j] - x) < WIDE * XMAX[side] && abs(AT[j] - AT[i]) < STEP * 0.999) { AT[i] = AT[j] + STEP }
        } }
        if (AT[i] - Y[i] > STEP / 2) { set arrow from first x, first back(Y[i]) to first x + 0.014 * XMAX[side], first back(AT[i]) \
                                       nohead lw 0.6 lc rgb '#999999' back }
    }
    if (side == 2) { unset key }
    plot for [i=1:N2] DATA index FIRST2 + i - 1 using (column(side + 1)):4:5:6 with yerrorbars lw 1 pt point(COLOR[S2[i]]) ps 0.7 \
             lc rgb color(COLOR[S2[i]]) title LABEL[S2[i]], \
         for [i=1:N2] DATA index FIRST2 + i - 1 using (column(side + 1) + 0.014 * XMAX[side]):(back(AT[int($8)])):8 \
             with labels left font ',8' textcolor rgb color(COLOR[S2[i]]) notitle
    eval(headoff)
}
unset arrow
HIGH = 0.74 / (NP > 20 ? NP : 20)
do for [i=1:NP] {
    y = 0.86 - HIGH * i
    set label 1000 + 3 * i sprintf('%d', i) at screen 0.757, screen y right font ',8' textcolor rgb color(COLOR[KIND[i]])
    set label 1001 + 3 * i NAME_OF[i] at screen 0.762, screen y left font ',8' noenhanced
    set label 1002 + 3 * i sprintf('%+.2f %', back(Y[i])) at screen 0.992, screen y right font ',8'
}
set label 1000 'precision' at screen 0.762, screen 0.87 left font ',8' textcolor rgb '#666666'
set label 1001 'loss' at screen 0.992, screen 0.87 right font ',8' textcolor rgb '#666666'
# a plot of nothing carries the list
unset border; unset tics; unset grid; set xlabel ''; set ylabel ''; unset nonlinear y; set xrange [0:1]; set yrange [0:1]
plot NaN notitle
unset multiplot
