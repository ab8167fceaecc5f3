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
