-- People who ask questions: views, and nothing but views.
grant usage on schema analyst to {role};
grant select on all tables in schema analyst to {role};
alter default privileges in schema analyst grant select on tables to {role};
