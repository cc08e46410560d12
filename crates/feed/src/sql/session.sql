-- A statement prepared on an empty table would go on scanning it whole when it is large.
set enable_seqscan = off;
set enable_bitmapscan = off;
set jit = off;
set statement_timeout = '60s';
