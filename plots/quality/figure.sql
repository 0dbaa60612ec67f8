-- The key: one series per family of precisions, so that KV formats and weight formats can be told apart.
SELECT 1 AS series, 'weights' AS label, 0 AS color_index UNION ALL SELECT 2, 'KV cache', 4 UNION ALL SELECT 3, 'both', 2;

-- Left: loss against decode speed; right: against bytes of weights. The reference stands at loss 0.
SELECT CASE WHEN m.kv_dtype <> 'f16' AND m.weight_dtype LIKE 'f16%' THEN 2 WHEN m.kv_dtype <> 'f16' THEN 3 ELSE 1 END AS series,
       q.decode_tok_s, q.weight_bytes / 1e6 AS weight_mb, q.loss_pct, coalesce(q.loss_pct_lo, q.loss_pct),
       coalesce(q.loss_pct_hi, q.loss_pct), m.weight_dtype AS name
FROM quality q JOIN models m USING (model_id)
WHERE q.experiment_id = (SELECT max(experiment_id) FROM quality) ORDER BY 1, q.quality_id;
