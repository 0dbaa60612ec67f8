# size 1000 480
# the bucket is the smallest distance between two of them
stats DATA index FIRST2 using 2 nooutput
STEP = STATS_records > 0 && STATS_max > 300 ? STATS_max / 300. : 1
set multiplot
unset key
set tmargin at screen 0.86; set bmargin at screen 0.60
set lmargin at screen 0.065; set rmargin at screen 0.985
set yrange [0:*]; set xrange [0:*]
set boxwidth 0.92 * STEP absolute
eval(headline)
eval(panel(1, 'arrivals per second, over seconds'))
plot DATA index FIRST2 using ($2 + 0.5 * STEP):3 with boxes fc rgb DECODE
eval(headoff)
set tmargin at screen 0.455; set bmargin at screen 0.13
bin(n) = 2 ** (n / 2.)
set style fill solid 1.0 noborder
set logscale x 2
set xrange [*:*]
set format x '%g'
set xtics rotate by 0 font ',9'
set lmargin at screen 0.065; set rmargin at screen 0.345
eval(panel(1, 'prompt tokens, requests per half octave'))
eval('set xtics ('.tokens.')')
plot DATA index FIRST3 using (bin($2 + 0.5)):3:(bin($2)):(bin($2 + 0.94)):(0):3 with boxxyerror fc rgb PREFILL
set lmargin at screen 0.385; set rmargin at screen 0.665
eval(panel(1, 'output tokens, requests per half octave'))
plot DATA index FIRST4 using (bin($2 + 0.5)):3:(bin($2)):(bin($2 + 0.94)):(0):3 with boxxyerror fc rgb DECODE
set lmargin at screen 0.725; set rmargin at screen 0.985
eval(panel(1, 'output tokens against prompt tokens'))
set logscale y 2
set yrange [*:*]; eval('set ytics ('.tokens.')')
plot DATA index FIRST5 using 2:3 with points pt 7 ps 0.4 lc rgb '#800072B2'
unset multiplot
