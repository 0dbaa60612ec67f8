-- The key: one series per family of weight formats.
SELECT 1 AS series, '16 bits' AS label, 6 AS color_index UNION ALL SELECT 2, 'fp8', 2 UNION ALL SELECT 3, 'int8', 0 UNION ALL
SELECT 4, 'int4', 1 UNION ALL SELECT 5, 'int4, zero=on', 3 UNION ALL SELECT 6, 'mixed', 5;

-- Loss against decode speed and against bytes of weights; n numbers the precisions as they were asked for, the first is the
-- reference, which stands at loss 0.
SELECT CASE WHEN m.weight_dtype LIKE 'int4%zero=on%' THEN 5 WHEN m.weight_dtype LIKE 'int4%' THEN 4
            WHEN m.weight_dtype LIKE 'int8%' THEN 3 WHEN m.weight_dtype LIKE 'fp8%' THEN 2
            WHEN m.weight_dtype LIKE 'mixed%' THEN 6 ELSE 1 END AS series,
       q.decode_tok_s, q.weight_bytes / 1e6 AS weight_mb, q.loss_pct, coalesce(q.loss_pct_lo, q.loss_pct) AS lo,
       coalesce(q.loss_pct_hi, q.loss_pct) AS hi, m.weight_dtype AS name, row_number() OVER (ORDER BY q.quality_id) AS n
FROM quality q JOIN models m USING (model_id)
WHERE q.experiment_id = (SELECT max(experiment_id) FROM quality) ORDER BY 1, q.quality_id;
