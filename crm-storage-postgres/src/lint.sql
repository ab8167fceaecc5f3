-- What must not be in a schema that is to be distributed by tenant, one sentence for each find.
-- $1: the schema. `_migrations` is sqlx's, and the rows of `tenants` are the tenants.
WITH tables AS (
    SELECT c.*,
        EXISTS (
            SELECT FROM pg_attribute AS a
            WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
        ) AS has_tenant
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND c.relname <> '_migrations'
), functions AS (
    -- Without comments.
    SELECT f.*, regexp_replace(
        regexp_replace(f.prosrc, '--[^\n]*', '', 'g'), '/\*.*?\*/', '', 'g') AS body
    FROM pg_proc AS f JOIN pg_namespace AS n ON n.oid = f.pronamespace
    WHERE n.nspname = $1
)
-- 1. The tenant leads.
SELECT format('1: %s.tenant_id is not `uuid NOT NULL`', t.relname) AS finding
FROM tables AS t JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attname = 'tenant_id'
WHERE t.has_tenant AND (a.atttypid <> 'uuid'::regtype OR NOT a.attnotnull)
UNION ALL
SELECT format('1: %s has no primary key', t.relname)
FROM tables AS t
WHERE NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = t.oid AND k.contype = 'p')
UNION ALL
SELECT format('1: the unique index %s does not lead with the tenant', x.indexrelid::regclass)
FROM tables AS t JOIN pg_index AS x ON x.indrelid = t.oid AND (x.indisunique OR x.indisexclusion)
LEFT JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = x.indkey[0]
WHERE t.has_tenant AND a.attname IS DISTINCT FROM 'tenant_id'
UNION ALL
SELECT format('1: the foreign key %s of %s leaves the tenant', k.conname, t.relname)
FROM tables AS t
JOIN pg_constraint AS k ON k.conrelid = t.oid AND k.contype = 'f'
JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = k.conkey[1]
JOIN pg_attribute AS b ON b.attrelid = k.confrelid AND b.attnum = k.confkey[1]
JOIN pg_class AS r ON r.oid = k.confrelid
WHERE t.has_tenant AND NOT (
    a.attname = 'tenant_id'
    AND (b.attname = 'tenant_id' OR (r.relname = 'tenants' AND b.attname = 'id')))
-- 2. What can't be distributed, and what would change rows behind the engine's back.
UNION ALL
SELECT format('2: the foreign key %s of %s changes rows', k.conname, t.relname)
FROM tables AS t JOIN pg_constraint AS k ON k.conrelid = t.oid AND k.contype = 'f'
WHERE k.confdeltype NOT IN ('a', 'r') OR k.confupdtype NOT IN ('a', 'r')
UNION ALL
SELECT format('2: the constraint %s of %s can be deferred', k.conname, t.relname)
FROM tables AS t JOIN pg_constraint AS k ON k.conrelid = t.oid
WHERE k.condeferrable
UNION ALL
SELECT format('2: %s has the trigger %s', t.relname, g.tgname)
FROM tables AS t JOIN pg_trigger AS g ON g.tgrelid = t.oid AND NOT g.tgisinternal
UNION ALL
SELECT format('2: the partition %s is partitioned itself', t.relname)
FROM tables AS t WHERE t.relkind = 'p' AND t.relispartition
UNION ALL
SELECT format('2: %s is a %s', c.relname,
    CASE c.relkind WHEN 'm' THEN 'materialized view' ELSE 'sequence' END)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind IN ('m', 'S')
UNION ALL
SELECT format('2: %s.%s counts by itself', t.relname, a.attname)
FROM tables AS t
JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef AS d ON d.adrelid = t.oid AND d.adnum = a.attnum
WHERE a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) ~* 'nextval\s*\('
-- 3. Time and ids come from the application.
UNION ALL
SELECT format('3: %s.%s takes time or chance from the database', t.relname, a.attname)
FROM tables AS t
JOIN pg_attrdef AS d ON d.adrelid = t.oid
JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = d.adnum
WHERE pg_get_expr(d.adbin, d.adrelid) ~*
    '\m(now|(clock|statement|transaction)_timestamp|timeofday|random|(gen_random|uuid_generate)\w*)\s*\(|\m(current_(date|time|timestamp)|localtime|localtimestamp)\M'
UNION ALL
SELECT format('3: %s() takes time or chance from the database', f.proname)
FROM functions AS f
WHERE f.body ~*
    '\m(now|(clock|statement|transaction)_timestamp|timeofday|random|(gen_random|uuid_generate)\w*)\s*\(|\m(current_(date|time|timestamp)|localtime|localtimestamp)\M'
-- 5. and 7. Nothing outlives a transaction.
UNION ALL
SELECT format('5: %s() takes a lock of the session', f.proname)
FROM functions AS f WHERE f.body ~* '\mpg_(try_)?advisory_(lock|unlock)'
UNION ALL
SELECT format('7: %s() changes the session', f.proname)
FROM functions AS f
WHERE f.body ~* 'set_config\s*\([^;]*,\s*false\s*\)|\mset\s+session\M|\mcreate\s+temp|\mlisten\s|\mwith\s+hold\M'
-- Row-level security, and doors past it.
UNION ALL
SELECT format('row-level security of %s is not enabled and forced', t.relname)
FROM tables AS t WHERE NOT t.relrowsecurity OR NOT t.relforcerowsecurity
UNION ALL
SELECT format('%s has no policy', t.relname)
FROM tables AS t
WHERE NOT t.relispartition AND NOT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = t.oid)
UNION ALL
SELECT format('everybody has rights on %s', t.relname)
FROM tables AS t WHERE EXISTS (SELECT FROM aclexplode(t.relacl) AS e WHERE e.grantee = 0)
UNION ALL
SELECT format('others than the owner have rights on the partition %s', t.relname)
FROM tables AS t
WHERE t.relispartition
    AND EXISTS (SELECT FROM aclexplode(t.relacl) AS e WHERE e.grantee <> t.relowner)
UNION ALL
SELECT DISTINCT format('%s may %s %s', r.rolname, lower(e.privilege_type), t.relname)
FROM tables AS t
CROSS JOIN LATERAL aclexplode(t.relacl) AS e
JOIN pg_roles AS r ON r.oid = e.grantee
WHERE t.relname IN ('audit_events', 'audit_events_archive') AND e.grantee <> t.relowner
    AND e.privilege_type NOT IN ('SELECT', 'INSERT')
    -- The role that nobody logs in as, by whose function retention takes events out.
    AND NOT EXISTS (
        SELECT FROM functions AS f WHERE f.proname = 'take_entries' AND f.proowner = e.grantee)
UNION ALL
SELECT DISTINCT format('%s may write %s.%s', e.grantee::regrole, t.relname, a.attname)
FROM tables AS t
JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.atttypid = 'xid8'::regtype AND NOT a.attisdropped
CROSS JOIN LATERAL (
    SELECT * FROM aclexplode(t.relacl) UNION ALL SELECT * FROM aclexplode(a.attacl)
) AS e
WHERE e.grantee <> t.relowner AND e.privilege_type IN ('INSERT', 'UPDATE')
    AND NOT EXISTS (
        SELECT FROM functions AS f WHERE f.proname = 'take_entries' AND f.proowner = e.grantee)
UNION ALL
SELECT DISTINCT format('row-level security does not hold for %s', r.rolname)
FROM tables AS t
CROSS JOIN LATERAL aclexplode(t.relacl) AS e
JOIN pg_roles AS r ON r.oid = e.grantee
WHERE e.grantee <> t.relowner AND (r.rolsuper OR r.rolbypassrls)
UNION ALL
SELECT format('everybody may call %s()', f.proname)
FROM functions AS f
WHERE EXISTS (
    SELECT FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) AS e
    WHERE e.grantee = 0)
UNION ALL
SELECT format('%s() runs with the rights of %s and has no search path of its own',
    f.proname, f.proowner::regrole)
FROM functions AS f
WHERE f.prosecdef AND NOT EXISTS (
    SELECT FROM unnest(f.proconfig) AS c WHERE c LIKE 'search_path=pg_catalog, pg_temp%')
UNION ALL
SELECT format('%s() runs with the rights of %s, for whom row-level security does not hold',
    f.proname, r.rolname)
FROM functions AS f JOIN pg_roles AS r ON r.oid = f.proowner
WHERE f.prosecdef AND (r.rolsuper OR r.rolbypassrls)
ORDER BY 1
