-- HTTP: which queries there are, and how far each read model is. The rows are `query`'s.
grant usage on schema projection to {role};
grant select on projection.versions, projection.active, projection.checkpoints, projection.parked
    to {role};
