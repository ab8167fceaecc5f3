-- What the catalog says of the tables and functions of a schema, one line for each part:
-- table, kind of part, name, definition. $1: the schema; $2: the tables; $3: the functions;
-- $4: the role of the search functions.
WITH tables AS (
    SELECT c.* FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = ANY ($2) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
)
SELECT t.relname::text AS relation, 'table' AS kind, '' AS name, concat_ws(' ',
    CASE t.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' ELSE 'no table' END,
    CASE t.relpersistence WHEN 'p' THEN NULL ELSE 'unlogged' END,
    pg_get_partkeydef(t.oid)) AS definition
FROM tables AS t
UNION ALL
SELECT t.relname::text, 'row-level security', '',
    concat_ws(', ', CASE WHEN t.relrowsecurity THEN 'enabled' ELSE 'disabled' END,
        CASE WHEN t.relforcerowsecurity THEN 'forced' ELSE 'not forced' END)
FROM tables AS t
UNION ALL
SELECT t.relname::text, 'column', a.attname::text, concat_ws(' ',
    format_type(a.atttypid, a.atttypmod),
    CASE WHEN a.attcollation <> y.typcollation THEN 'COLLATE ' || quote_ident(o.collname) END,
    CASE WHEN a.attnotnull THEN 'NOT NULL' END,
    CASE a.attidentity WHEN '' THEN NULL ELSE 'GENERATED AS IDENTITY' END,
    CASE a.attgenerated WHEN '' THEN 'DEFAULT' ELSE 'GENERATED' END || ' ' || pg_get_expr(d.adbin, d.adrelid))
FROM tables AS t
JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type AS y ON y.oid = a.atttypid
LEFT JOIN pg_collation AS o ON o.oid = a.attcollation
LEFT JOIN pg_attrdef AS d ON d.adrelid = t.oid AND d.adnum = a.attnum
UNION ALL
SELECT t.relname::text, 'constraint', k.conname::text, pg_get_constraintdef(k.oid)
FROM tables AS t
JOIN pg_constraint AS k ON k.conrelid = t.oid AND k.contype IN ('p', 'u', 'f', 'c', 'x')
UNION ALL
SELECT t.relname::text, 'index', i.relname::text,
    pg_get_indexdef(i.oid) || CASE WHEN x.indisvalid AND x.indisready THEN '' ELSE ' INVALID' END
FROM tables AS t
JOIN pg_index AS x ON x.indrelid = t.oid
JOIN pg_class AS i ON i.oid = x.indexrelid
UNION ALL
SELECT p.tablename::text, 'policy', p.policyname::text,
    format('%s FOR %s TO %s USING (%s) WITH CHECK (%s)',
        p.permissive, p.cmd, array_to_string(p.roles, ', '), p.qual, p.with_check)
FROM tables AS t
JOIN pg_policies AS p ON p.schemaname = $1 AND p.tablename = t.relname
UNION ALL
SELECT t.relname::text, 'trigger', g.tgname::text, pg_get_triggerdef(g.oid)
FROM tables AS t JOIN pg_trigger AS g ON g.tgrelid = t.oid AND NOT g.tgisinternal
UNION ALL
SELECT t.relname::text, 'rule', r.rulename::text, pg_get_ruledef(r.oid)
FROM tables AS t JOIN pg_rewrite AS r ON r.ev_class = t.oid
UNION ALL
-- Rights: those of everybody and of the search functions. The application's role is not known.
SELECT t.relname::text, 'rights', coalesce(r.rolname::text, 'PUBLIC'),
    string_agg(concat_ws(' ', l.privilege_type, l.attname), ', ' ORDER BY l.privilege_type, l.attname)
FROM tables AS t
CROSS JOIN LATERAL (
    SELECT e.grantee, e.privilege_type, NULL AS attname FROM aclexplode(t.relacl) AS e
    UNION ALL
    SELECT e.grantee, e.privilege_type, a.attname::text
    FROM pg_attribute AS a CROSS JOIN LATERAL aclexplode(a.attacl) AS e
    WHERE a.attrelid = t.oid AND NOT a.attisdropped
) AS l
LEFT JOIN pg_roles AS r ON r.oid = l.grantee
WHERE l.grantee = 0 OR r.rolname = $4
GROUP BY t.relname, r.rolname
UNION ALL
SELECT t.relname::text, 'default partition', c.relname::text, pg_get_expr(c.relpartbound, c.oid)
FROM tables AS t
JOIN pg_inherits AS h ON h.inhparent = t.oid
JOIN pg_class AS c ON c.oid = h.inhrelid
WHERE pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT'
UNION ALL
-- A partition that can be reached past the policy of its table; none is expected.
SELECT t.relname::text, 'open partition', c.relname::text, concat_ws(', ',
    CASE WHEN NOT c.relrowsecurity OR NOT c.relforcerowsecurity THEN 'no row-level security' END,
    CASE WHEN EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid) THEN 'a policy' END,
    CASE WHEN EXISTS (
        SELECT FROM aclexplode(c.relacl) AS e WHERE e.grantee <> c.relowner
    ) THEN 'rights of others than the owner' END)
FROM tables AS t
JOIN pg_inherits AS h ON h.inhparent = t.oid
JOIN pg_class AS c ON c.oid = h.inhrelid
WHERE NOT c.relrowsecurity OR NOT c.relforcerowsecurity
    OR EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid)
    OR EXISTS (SELECT FROM aclexplode(c.relacl) AS e WHERE e.grantee <> c.relowner)
UNION ALL
SELECT f.proname || '()', 'function', pg_get_function_identity_arguments(f.oid),
    pg_get_functiondef(f.oid)
FROM pg_proc AS f JOIN pg_namespace AS n ON n.oid = f.pronamespace
WHERE n.nspname = $1 AND f.proname = ANY ($3)
ORDER BY 1, 2, 3
