-- What was asked and answered under a key.
select request, answer from sandbox.answers where key = $1;
