-- Gives a record that SQL changed past the library its next version, so that whoever read it before
-- has a conflict and no two states have the same version (R-066). Its argument: the fields that are
-- told. Whatever else changes is put back, so that each version has its event.
CREATE OR REPLACE FUNCTION {schema}.version_raw_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    was jsonb;
    is_now jsonb;
    moment timestamptz := date_trunc('microseconds', clock_timestamp());
BEGIN
    IF current_setting('crm.recorded', true) IS NOT DISTINCT FROM statement_timestamp()::text THEN
        RETURN NEW;
    END IF;
    was := to_jsonb(OLD);
    is_now := to_jsonb(NEW);
    IF EXISTS (
        SELECT FROM unnest(ARRAY['tenant_id', 'id', 'created_at', 'created_by', 'created_by_id']) AS n(name)
        WHERE was -> n.name IS DISTINCT FROM is_now -> n.name
    ) THEN
        RAISE EXCEPTION 'the tenant and id of a record, and when and by whom it was made, never change'
            USING ERRCODE = 'integrity_constraint_violation', HINT = 'make another record';
    END IF;
    IF (OLD.deleted_at IS NULL) = (NEW.deleted_at IS NULL) THEN
        NEW.deleted_at := OLD.deleted_at;
    ELSIF NEW.deleted_at IS NOT NULL THEN
        NEW.deleted_at := moment;
    END IF;
    IF OLD.deleted_at IS DISTINCT FROM NEW.deleted_at OR EXISTS (
        SELECT FROM unnest(TG_ARGV[0]::text[] || ARRAY['archived_at']) AS n(name)
        WHERE was -> n.name IS DISTINCT FROM is_now -> n.name
    ) THEN
        NEW.version := OLD.version + 1;
        NEW.updated_at := moment;
        NEW.updated_by := 'system';
        NEW.updated_by_id := NULL;
    ELSE
        NEW.version := OLD.version;
        NEW.updated_at := OLD.updated_at;
        NEW.updated_by := OLD.updated_by;
        NEW.updated_by_id := OLD.updated_by_id;
    END IF;
    RETURN NEW;
END
$function$;

-- Whether a value of this name is a secret (R-009).
CREATE OR REPLACE FUNCTION {schema}.is_sensitive_name(name text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT name ~* '(^(ssn|tax_id|credit_card|bank_account|api_key)$|password|secret)'
$function$;

-- A document without its secrets, however deep they stand.
CREATE OR REPLACE FUNCTION {schema}.mask_members(document jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF jsonb_typeof(document) = 'object' THEN
        RETURN (
            SELECT coalesce(jsonb_object_agg(m.key, CASE
                WHEN m.value <> 'null' AND {schema}.is_sensitive_name(m.key) THEN '"***"'
                ELSE {schema}.mask_members(m.value) END), '{}')
            FROM jsonb_each(document) AS m
        );
    ELSIF jsonb_typeof(document) = 'array' THEN
        RETURN (
            SELECT coalesce(jsonb_agg({schema}.mask_members(i.item) ORDER BY i.place), '[]')
            FROM jsonb_array_elements(document) WITH ORDINALITY AS i(item, place)
        );
    END IF;
    RETURN document;
END
$function$;

-- Writes the audit event of a record that SQL changed past the library (C-101, C-111 to C-115). Its
-- arguments: the name of the object; the fields that are told; those of which only that they changed
-- is told.
CREATE OR REPLACE FUNCTION {schema}.record_raw_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $function$
DECLARE
    was jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    is_now jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    row_now jsonb := coalesce(is_now, was);
    names text[] := TG_ARGV[1]::text[];
    secret text[] := TG_ARGV[2]::text[];
    kind text;
    changes jsonb;
    id_bytes bytea;
    raw_commit text;
    -- The version that comes of a change is as old as its event.
    moment timestamptz := CASE TG_OP
        WHEN 'UPDATE' THEN (is_now ->> 'updated_at')::timestamptz
        ELSE date_trunc('microseconds', clock_timestamp()) END;
BEGIN
    -- The library says in each of its statements that it records what it does.
    IF current_setting('crm.recorded', true) IS NOT DISTINCT FROM statement_timestamp()::text THEN
        RETURN NULL;
    END IF;
    kind := CASE
        WHEN TG_OP = 'INSERT' THEN 'create'
        WHEN TG_OP = 'DELETE' THEN 'purge'
        WHEN was ->> 'deleted_at' IS NULL AND is_now ->> 'deleted_at' IS NOT NULL THEN 'delete'
        WHEN was ->> 'deleted_at' IS NOT NULL AND is_now ->> 'deleted_at' IS NULL THEN 'restore'
        ELSE 'update'
    END;
    IF kind IN ('update', 'restore') THEN
        -- Documents member by member.
        SELECT jsonb_object_agg(c.name, jsonb_build_object('old', c.old, 'new', c.new)) INTO changes
        FROM (
            SELECT n.name || coalesce('.' || m.name, '') AS name,
                CASE WHEN m.name IS NULL THEN was -> n.name ELSE coalesce(was -> n.name -> m.name, 'null') END AS old,
                CASE WHEN m.name IS NULL THEN is_now -> n.name ELSE coalesce(is_now -> n.name -> m.name, 'null') END AS new
            FROM unnest(names || ARRAY['archived_at']) AS n(name)
            CROSS JOIN LATERAL (
                SELECT jsonb_typeof(was -> n.name) = 'object' AND jsonb_typeof(is_now -> n.name) = 'object'
            ) AS d(are_documents)
            LEFT JOIN LATERAL (
                SELECT jsonb_object_keys(CASE WHEN d.are_documents THEN was -> n.name ELSE '{}' END)
                UNION
                SELECT jsonb_object_keys(CASE WHEN d.are_documents THEN is_now -> n.name ELSE '{}' END)
            ) AS m(name) ON true
            WHERE was -> n.name IS DISTINCT FROM is_now -> n.name
        ) AS c
        WHERE c.old IS DISTINCT FROM c.new;
    ELSE
        SELECT jsonb_object_agg(n.name, jsonb_build_object(
            CASE WHEN kind = 'create' THEN 'new' ELSE 'old' END, row_now -> n.name))
        INTO changes
        FROM unnest(names) AS n(name)
        WHERE row_now -> n.name NOT IN ('null', '[]', '{}');
    END IF;
    changes := coalesce(changes, '{}');
    IF kind = 'update' AND changes = '{}' THEN
        RETURN NULL;
    END IF;
    -- Secrets never reach the trail.
    SELECT coalesce(jsonb_object_agg(c.key, CASE
        WHEN split_part(c.key, '.', 1) = ANY (secret)
            OR {schema}.is_sensitive_name(reverse(split_part(reverse(c.key), '.', 1)))
        THEN (SELECT jsonb_object_agg(s.key, CASE WHEN s.value = 'null' THEN s.value ELSE '"***"' END)
              FROM jsonb_each(c.value) AS s)
        ELSE {schema}.mask_members(c.value) END), '{}')
    INTO changes FROM jsonb_each(changes) AS c;
    -- Ids sort by time, as the library's do.
    id_bytes := substring(int8send((extract(epoch FROM moment) * 1000)::bigint) FROM 3)
        || substring(uuid_send(gen_random_uuid()) FROM 7);
    id_bytes := set_byte(id_bytes, 6, (get_byte(id_bytes, 6) & 15) | 112);
    -- What one transaction does is one commit.
    raw_commit := nullif(current_setting('crm.raw_commit', true), '');
    IF raw_commit IS NULL THEN
        raw_commit := set_config('crm.raw_commit', gen_random_uuid()::text, true);
    END IF;
    INSERT INTO {schema}.audit_events (tenant_id, id, version, created_at, created_by, updated_at,
        updated_by, commit_id, event, category, object, record_id, record_version, changes, endpoint, salt)
    VALUES ((row_now ->> 'tenant_id')::uuid, encode(id_bytes, 'hex')::uuid, 1, moment, 'system',
        moment, 'system', raw_commit::uuid, kind, 'data_change', TG_ARGV[0],
        (row_now ->> 'id')::uuid,
        (row_now ->> 'version')::bigint + CASE WHEN TG_OP = 'DELETE' THEN 1 ELSE 0 END,
        changes, 'sql', gen_random_uuid());
    RETURN NULL;
END
$function$;

