-- Refuses a commit: everything that its statement did is undone.
CREATE FUNCTION {schema}.refuse(code text, detail text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RAISE EXCEPTION 'refused' USING ERRCODE = code, DETAIL = detail;
END
$function$;

-- The first of these rows that a row which is not deleted refers to, or any row. VOLATILE, so it
-- looks with a snapshot of its own: it sees what others committed while the statement waited for
-- their locks. Of a table that several objects share, the rows with `instance` in `discriminator`
-- are looked at.
CREATE FUNCTION {schema}.referred(
    tenant uuid, object_table text, reference text, ids uuid[], with_deleted boolean,
    discriminator text, instance uuid
) RETURNS uuid
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    found_id uuid;
BEGIN
    EXECUTE format(
        'SELECT t.%1$I FROM %2$I.%3$I AS t WHERE t.tenant_id = $1 AND t.%1$I = ANY($2)'
        '%4$s%5$s LIMIT 1',
        reference, {schema_literal}, object_table,
        CASE WHEN with_deleted THEN '' ELSE ' AND t.deleted_at IS NULL' END,
        CASE WHEN discriminator IS NULL THEN '' ELSE format(' AND t.%I = $3', discriminator) END)
        INTO found_id USING tenant, ids, instance;
    RETURN found_id;
END
$function$;

-- Takes entries of a tenant and month out of a log by months: into its archive, or for good where none is
-- given; gives their number. It runs with the rights of a role that nobody can log in as, so that the
-- application itself can neither remove an event nor put one into the archive: events go only where
-- a retention policy of the tenant says so. Row-level security holds for that role as for others.
CREATE FUNCTION {schema}.take_entries(
    tenant uuid, object text, log text, archive text, month timestamptz, ids uuid[]
) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    first timestamptz := date_trunc('month', month AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    until timestamptz :=
        (date_trunc('month', month AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
    wanted text := format('%I.%I', {schema_literal}, log);
    kept text := quote_ident({schema_literal}) || '.' || quote_ident(archive);
    names text;
    taken uuid[];
    missing uuid;
BEGIN
    -- The role of this function sees policies of all tenants, as it owns the functions that search.
    IF tenant IS DISTINCT FROM NULLIF(current_setting('crm.tenant_id', true), '')::uuid THEN
        RAISE EXCEPTION 'entries are taken by their tenant' USING ERRCODE = '42501';
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_partitioned_table AS p WHERE p.partrelid = to_regclass(wanted)
    ) OR archive IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_partitioned_table AS p
        WHERE p.partrelid = to_regclass(kept)
            AND obj_description(p.partrelid, 'pg_class') = 'archive of ' || log
    ) THEN
        RAISE EXCEPTION 'entries are taken out of logs by months' USING ERRCODE = '42501';
    END IF;
    IF log IN ('audit_events', 'audit_events_archive') AND NOT EXISTS (
        SELECT FROM {schema}.retention_policies AS p
        WHERE p.tenant_id = tenant AND p.object = 'audit_event' AND p.deleted_at IS NULL
            AND p.method = CASE WHEN archive IS NULL THEN 'hard_delete' ELSE 'archive' END
    ) THEN
        RAISE EXCEPTION 'no retention policy lets events go' USING ERRCODE = '42501';
    END IF;
    IF archive IS NULL THEN
        EXECUTE format(
            'WITH gone AS (DELETE FROM %s AS t WHERE t.tenant_id = $1 AND t.id = ANY($2)'
            ' AND t.created_at >= $3 AND t.created_at < $4 RETURNING t.id)'
            ' SELECT array_agg(g.id) FROM gone AS g', wanted)
            INTO taken USING tenant, ids, first, until;
    ELSE
        SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO names
        FROM pg_attribute AS a
        WHERE a.attrelid = to_regclass(wanted) AND a.attnum > 0 AND NOT a.attisdropped
            AND a.attgenerated = '';
        EXECUTE format(
            'WITH gone AS (DELETE FROM %s AS t WHERE t.tenant_id = $1 AND t.id = ANY($2)'
            ' AND t.created_at >= $3 AND t.created_at < $4 RETURNING t.*),'
            ' moved AS (INSERT INTO %s (%s) SELECT %s FROM gone RETURNING id)'
            ' SELECT array_agg(m.id) FROM moved AS m', wanted, kept, names, names)
            INTO taken USING tenant, ids, first, until;
    END IF;
    SELECT i INTO missing FROM unnest(ids) AS i WHERE i <> ALL (coalesce(taken, '{}')) LIMIT 1;
    IF missing IS NOT NULL THEN
        PERFORM {schema}.refuse('CRM03', object || ' ' || missing);
    END IF;
    RETURN cardinality(taken);
END
$function$;
