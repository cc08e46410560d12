-- OrderPlaced/1 had nothing beside its lines: what they came to was the total.
data || '{"shipping": 0, "tax": 0}'
