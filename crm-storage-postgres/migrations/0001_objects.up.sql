-- Made from the schemas of the objects, and frozen once released: then changes are a new file.

-- The schema, unless it was made before, perhaps by somebody who may.
DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'crm') THEN
        CREATE SCHEMA "crm";
    END IF;
END
$do$;

-- The role of the application, and the one that the search functions belong to. Roles are
-- shared by all databases of a server: another may make them at the same time.
DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'crm_app') THEN
        CREATE ROLE "crm_app" NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
END
$do$;
DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'crm_search') THEN
        CREATE ROLE "crm_search" NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
END
$do$;
GRANT USAGE ON SCHEMA "crm" TO "crm_app";
GRANT USAGE ON SCHEMA "crm" TO "crm_search";

-- A text with its case folded, as the library folds it: what `str::to_lowercase` gives.
--
-- Texts of ASCII letters take the short way. The others need a locale that knows all letters: ICU
-- is there whatever the locale of the database. The letters in the second case are younger than
-- the ICU of many servers; what still may differ is a final sigma beside a letter that the server
-- does not know. Not STRICT: only so the planner can put the body in place of the call.
CREATE FUNCTION "crm".fold_case(text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $function$
    SELECT CASE
        WHEN octet_length($1) = length($1) THEN lower($1 COLLATE "C")
        WHEN $1 COLLATE "C" ~ '[\u1C89\uA7CB-\uA7DC\U00010D50-\U00010D65\U00016EA0-\U00016EB8]'
            THEN lower(translate(
                    $1,
                    U&'\1C89\A7CB\A7CC\A7CE\A7D2\A7D4\A7DA\A7DC\+010D50\+010D51\+010D52\+010D53'
                    '\+010D54\+010D55\+010D56\+010D57\+010D58\+010D59\+010D5A\+010D5B\+010D5C'
                    '\+010D5D\+010D5E\+010D5F\+010D60\+010D61\+010D62\+010D63\+010D64\+010D65'
                    '\+016EA0\+016EA1\+016EA2\+016EA3\+016EA4\+016EA5\+016EA6\+016EA7\+016EA8'
                    '\+016EA9\+016EAA\+016EAB\+016EAC\+016EAD\+016EAE\+016EAF\+016EB0\+016EB1'
                    '\+016EB2\+016EB3\+016EB4\+016EB5\+016EB6\+016EB7\+016EB8',
                    U&'\1C8A\0264\A7CD\A7CF\A7D3\A7D5\A7DB\019B\+010D70\+010D71\+010D72\+010D73'
                    '\+010D74\+010D75\+010D76\+010D77\+010D78\+010D79\+010D7A\+010D7B\+010D7C'
                    '\+010D7D\+010D7E\+010D7F\+010D80\+010D81\+010D82\+010D83\+010D84\+010D85'
                    '\+016EBB\+016EBC\+016EBD\+016EBE\+016EBF\+016EC0\+016EC1\+016EC2\+016EC3'
                    '\+016EC4\+016EC5\+016EC6\+016EC7\+016EC8\+016EC9\+016ECA\+016ECB\+016ECC'
                    '\+016ECD\+016ECE\+016ECF\+016ED0\+016ED1\+016ED2\+016ED3'
                ) COLLATE "und-x-icu") COLLATE "C"
        ELSE lower($1 COLLATE "und-x-icu") COLLATE "C"
    END
$function$;

-- What the full-text vectors hold of a text, and what is looked for in them: runs of letters and
-- digits, no case, no accents, as the library's `search_words` has them. The vectors call it only for
-- texts that are not ASCII; of others they leave the punctuation out themselves.
CREATE FUNCTION "crm".search_text(text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $function$
BEGIN
    RETURN translate(
        regexp_replace(
            regexp_replace(
                normalize(lower($1 COLLATE "und-x-icu"), NFKD) COLLATE "C", '[\u0300-\u036F]', '', 'g')
            COLLATE "und-x-icu", '[^[:alnum:]]+', ' ', 'g'),
        U&'\03C2', U&'\03C3');
END
$function$;

-- The live records of a table in which every word of `query` begins a word, best first.
--
-- Full-text operators are not leakproof, so under row-level security they cannot use their index.
-- This function belongs to a role that sees all rows, but only the columns that a search needs; it
-- looks at those of `tenant` only, and refuses any other tenant than that of the transaction. At
-- most 1,000 hits are ranked. Of a table that several objects share, the rows with `instance` in
-- `discriminator` are looked at. Records that are found by more than their own text fields have all
-- their words in `texts_table` too, where that is given, under `object_key`.
CREATE FUNCTION "crm".search(
    tenant uuid, object_table text, query text, max_results integer, discriminator text DEFAULT NULL,
    instance uuid DEFAULT NULL, texts_table text DEFAULT NULL, object_key text DEFAULT NULL
)
    RETURNS TABLE (id uuid, rank real)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER ROWS 50
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    words tsquery;
    searched text[];
    live text;
    selects text[] := '{}';
BEGIN
    IF tenant IS NULL
        OR tenant IS DISTINCT FROM NULLIF(current_setting('crm.tenant_id', true), '')::uuid THEN
        RAISE EXCEPTION 'the tenant is not that of the transaction'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT array_agg(c.relname::text) INTO searched
    FROM pg_attribute AS a
    JOIN pg_class AS c ON c.oid = a.attrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = 'crm' AND c.relname IN (object_table, texts_table)
        AND c.relkind = 'r' AND a.attname = 'search_vector' AND a.atttypid = 'tsvector'::regtype;
    live := 't.deleted_at IS NULL' || CASE
        WHEN discriminator IS NULL THEN '' ELSE format(' AND t.%I = $4', discriminator) END;
    IF object_table = ANY(searched) THEN
        selects := selects || format(
            '(SELECT t.id, t.search_vector FROM %I.%I AS t WHERE t.tenant_id = $1 '
            'AND t.search_vector @@ $2 AND %s LIMIT 1000)',
            'crm', object_table, live);
    END IF;
    IF texts_table = ANY(searched) THEN
        selects := selects || format(
            '(SELECT t.id, x.search_vector FROM (SELECT o.record_id, o.search_vector FROM %I.%I AS o '
            'WHERE o.tenant_id = $1 AND o.object = $5 AND o.search_vector @@ $2 LIMIT 1000) AS x '
            'JOIN %I.%I AS t ON t.tenant_id = $1 AND t.id = x.record_id WHERE %s)',
            'crm', texts_table, 'crm', object_table, live);
    END IF;
    IF cardinality(selects) = 0 THEN
        RAISE EXCEPTION 'no such table to search' USING ERRCODE = 'undefined_table';
    END IF;

    -- Every word as it was typed, or all that the parser makes of it: an e-mail address is one word
    -- for the parser when it is complete, and several before.
    SELECT string_agg('(' || concat_ws(' | ', whole, parts) || ')', ' & ')::tsquery INTO words
    FROM (
        SELECT
            '''' || replace(replace(word, '\', '\\'), '''', '''''') || ''':*' AS whole,
            (
                SELECT string_agg(
                    '''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || ''':*', ' & ')
                FROM unnest(tsvector_to_array(to_tsvector('simple'::regconfig, word))) AS lexeme
            ) AS parts
        FROM regexp_split_to_table(
            left("crm".search_text(left(query, 256)), 256), '\s+') AS word
        WHERE word <> ''
        LIMIT 16
    ) AS typed
    WHERE parts IS NOT NULL;
    IF words IS NULL THEN
        RETURN;
    END IF;

    RETURN QUERY EXECUTE
        'SELECT hit.id, max(ts_rank(hit.search_vector, $2)) AS rank FROM ('
        || array_to_string(selects, ' UNION ALL ')
        || ') AS hit GROUP BY hit.id ORDER BY rank DESC, hit.id LIMIT greatest($3, 0)'
        USING tenant, words, max_results, instance, object_key;
END
$function$;

-- The records of a table whose list in `column_name` holds any or all of `tags`, deleted ones too:
-- whether those count is the caller's to say. NULL if there are more than `max_results`: then it
-- costs less to look at the rows in their order. Array operators are not leakproof; see `search`.
CREATE FUNCTION "crm".tagged(
    tenant uuid, object_table text, column_name text, tags text[], match_all boolean,
    max_results integer, discriminator text DEFAULT NULL,
    instance uuid DEFAULT NULL
)
    RETURNS uuid[]
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    ids uuid[];
BEGIN
    IF tenant IS NULL
        OR tenant IS DISTINCT FROM NULLIF(current_setting('crm.tenant_id', true), '')::uuid THEN
        RAISE EXCEPTION 'the tenant is not that of the transaction'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_attribute AS a
        JOIN pg_class AS c ON c.oid = a.attrelid
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = 'crm' AND c.relname = object_table
            AND c.relkind = 'r' AND a.attname = column_name AND a.atttypid = 'text[]'::regtype
    ) THEN
        RAISE EXCEPTION 'no such list of tags' USING ERRCODE = 'undefined_column';
    END IF;
    EXECUTE format(
        'SELECT coalesce(array_agg(hit.id), ''{}'') FROM ('
        'SELECT t.id FROM %I.%I AS t WHERE t.tenant_id = $1 AND t.%I %s $2%s LIMIT $3 + 1) AS hit',
        'crm', object_table, column_name, CASE WHEN match_all THEN '@>' ELSE '&&' END,
        CASE WHEN discriminator IS NULL THEN '' ELSE format(' AND t.%I = $4', discriminator) END)
        INTO ids USING tenant, tags, greatest(max_results, 0)::bigint, instance;
    RETURN CASE WHEN cardinality(ids) <= max_results THEN ids END;
END
$function$;

-- Refuses a commit: everything that its statement did is undone.
CREATE FUNCTION "crm".refuse(code text, detail text) RETURNS boolean
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
CREATE FUNCTION "crm".referred(
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
        reference, 'crm', object_table,
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
CREATE FUNCTION "crm".take_entries(
    tenant uuid, object text, log text, archive text, month timestamptz, ids uuid[]
) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    first timestamptz := date_trunc('month', month AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    until timestamptz :=
        (date_trunc('month', month AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
    wanted text := format('%I.%I', 'crm', log);
    kept text := quote_ident('crm') || '.' || quote_ident(archive);
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
        SELECT FROM "crm".retention_policies AS p
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
        PERFORM "crm".refuse('CRM03', object || ' ' || missing);
    END IF;
    RETURN cardinality(taken);
END
$function$;

CREATE TABLE "crm"."tenants" (
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(255) COLLATE "C" NOT NULL,
    "subdomain" varchar(63) COLLATE "C" NOT NULL,
    "display_name" varchar(255) COLLATE "C" NOT NULL,
    "custom_domain" varchar(253) COLLATE "C",
    "description" varchar(32768) COLLATE "C",
    "industry" varchar(100) COLLATE "C",
    "company_size" varchar(50) COLLATE "C",
    "country" varchar(2) COLLATE "C",
    "timezone" varchar(50) COLLATE "C" NOT NULL,
    "currency" varchar(3) COLLATE "C" NOT NULL,
    "language" varchar(35) COLLATE "C" NOT NULL,
    "logo_url" varchar(500) COLLATE "C",
    "favicon_url" varchar(500) COLLATE "C",
    "brand_colors" jsonb NOT NULL,
    "settings" jsonb NOT NULL,
    "features" jsonb NOT NULL,
    "limits" jsonb NOT NULL,
    "billing_info" jsonb,
    "subscription_plan" varchar(50) COLLATE "C" NOT NULL,
    "subscription_status" varchar(50) COLLATE "C" NOT NULL,
    "trial_ends_at" timestamptz,
    "subscription_ends_at" timestamptz,
    "suspension_reason" varchar(1000) COLLATE "C",
    "suspended_at" timestamptz,
    "is_active" boolean NOT NULL,
    "subdomain_folded" text COLLATE "C" NOT NULL,
    "custom_domain_folded" text COLLATE "C",
    "sealed" bytea,
    CONSTRAINT "tenants_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "tenants_version_check" CHECK ("version" >= 1),
    CONSTRAINT "tenants_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "tenants_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "tenants_company_size_check" CHECK ("company_size" IN ('startup', 'small', 'medium', 'large', 'enterprise')),
    CONSTRAINT "tenants_subscription_plan_check" CHECK ("subscription_plan" IN ('trial', 'basic', 'professional', 'enterprise', 'custom')),
    CONSTRAINT "tenants_subscription_status_check" CHECK ("subscription_status" IN ('active', 'past_due', 'cancelled', 'suspended', 'expired'))
);
CREATE UNIQUE INDEX "tenants_subdomain_folded_key" ON "crm"."tenants" ("subdomain_folded") WHERE "deleted_at" IS NULL;
CREATE UNIQUE INDEX "tenants_custom_domain_folded_key" ON "crm"."tenants" ("custom_domain_folded") WHERE "deleted_at" IS NULL;
CREATE INDEX "tenants_created_at_id_idx" ON "crm"."tenants" ("created_at", "id");
CREATE INDEX "tenants_updated_at_id_idx" ON "crm"."tenants" ("updated_at", "id");
ALTER TABLE "crm"."tenants" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."tenants"
    USING ("id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
CREATE POLICY "platform" ON "crm"."tenants" FOR SELECT
    USING (current_setting('crm.platform', true) = 'on');
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."tenants" TO "crm_app";

CREATE TABLE "crm"."tenant_configurations" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "category" varchar(50) COLLATE "C" NOT NULL,
    "key" varchar(100) COLLATE "C" NOT NULL,
    "value" jsonb NOT NULL,
    "is_system" boolean NOT NULL,
    "description" varchar(32768) COLLATE "C",
    CONSTRAINT "tenant_configurations_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "tenant_configurations_version_check" CHECK ("version" >= 1),
    CONSTRAINT "tenant_configurations_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "tenant_configurations_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "tenant_configurations_category_check" CHECK ("category" IN ('general', 'security', 'integrations', 'notifications', 'branding', 'features', 'limits', 'ui_customization', 'business_rules', 'workflow_automation'))
);
CREATE UNIQUE INDEX "tenant_configurations_category_key_key" ON "crm"."tenant_configurations" ("tenant_id", "category", "key") WHERE "deleted_at" IS NULL;
CREATE INDEX "tenant_configurations_created_at_id_idx" ON "crm"."tenant_configurations" ("tenant_id", "created_at", "id");
CREATE INDEX "tenant_configurations_updated_at_id_idx" ON "crm"."tenant_configurations" ("tenant_id", "updated_at", "id");
ALTER TABLE "crm"."tenant_configurations" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."tenant_configurations"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."tenant_configurations" TO "crm_app";

CREATE TABLE "crm"."users" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "email" varchar(254) COLLATE "C" NOT NULL,
    "username" varchar(100) COLLATE "C",
    "email_verified_at" timestamptz,
    "password_hash" varchar(255) COLLATE "C",
    "first_name" varchar(100) COLLATE "C",
    "last_name" varchar(100) COLLATE "C",
    "display_name" varchar(201) COLLATE "C",
    "avatar_url" varchar(500) COLLATE "C",
    "phone" varchar(50) COLLATE "C",
    "phone_e164" varchar(16) COLLATE "C",
    "mobile" varchar(50) COLLATE "C",
    "mobile_e164" varchar(16) COLLATE "C",
    "job_title" varchar(150) COLLATE "C",
    "department" varchar(100) COLLATE "C",
    "manager_id" uuid,
    "employee_id" varchar(50) COLLATE "C",
    "hire_date" date,
    "birth_date" date,
    "address_street" varchar(500) COLLATE "C",
    "address_city" varchar(100) COLLATE "C",
    "address_region" varchar(100) COLLATE "C",
    "address_postal_code" varchar(20) COLLATE "C",
    "address_country" varchar(2) COLLATE "C",
    "timezone" varchar(50) COLLATE "C" NOT NULL,
    "language" varchar(35) COLLATE "C" NOT NULL,
    "locale" varchar(35) COLLATE "C" NOT NULL,
    "date_format" varchar(20) COLLATE "C" NOT NULL,
    "time_format" varchar(50) COLLATE "C" NOT NULL,
    "currency" varchar(3) COLLATE "C" NOT NULL,
    "preferences" jsonb NOT NULL,
    "custom_fields" jsonb NOT NULL,
    "status" varchar(50) COLLATE "C" NOT NULL,
    "lead_capacity" bigint,
    "last_login_at" timestamptz,
    "last_activity_at" timestamptz,
    "password_changed_at" timestamptz,
    "must_change_password" boolean NOT NULL,
    "failed_login_attempts" bigint NOT NULL,
    "locked_until" timestamptz,
    "email_folded" text COLLATE "C" NOT NULL,
    "username_folded" text COLLATE "C",
    "sealed" bytea,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("email") <> length("email") THEN "crm".search_text("email") ELSE translate(coalesce("email", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("first_name") <> length("first_name") THEN "crm".search_text("first_name") ELSE translate(coalesce("first_name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'B')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("last_name") <> length("last_name") THEN "crm".search_text("last_name") ELSE translate(coalesce("last_name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'C')
    ) STORED,
    CONSTRAINT "users_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "users_version_check" CHECK ("version" >= 1),
    CONSTRAINT "users_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "users_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "users_time_format_check" CHECK ("time_format" IN ('12h', '24h')),
    CONSTRAINT "users_status_check" CHECK ("status" IN ('active', 'inactive', 'suspended', 'archived')),
    CONSTRAINT "users_lead_capacity_check" CHECK ("lead_capacity" BETWEEN 0 AND 2147483647),
    CONSTRAINT "users_failed_login_attempts_check" CHECK ("failed_login_attempts" BETWEEN 0 AND 2147483647)
);
CREATE UNIQUE INDEX "users_email_folded_key" ON "crm"."users" ("tenant_id", "email_folded") WHERE "deleted_at" IS NULL;
CREATE UNIQUE INDEX "users_username_folded_key" ON "crm"."users" ("tenant_id", "username_folded") WHERE "deleted_at" IS NULL;
CREATE UNIQUE INDEX "users_employee_id_key" ON "crm"."users" ("tenant_id", "employee_id") WHERE "deleted_at" IS NULL;
CREATE INDEX "users_created_at_id_idx" ON "crm"."users" ("tenant_id", "created_at", "id");
CREATE INDEX "users_updated_at_id_idx" ON "crm"."users" ("tenant_id", "updated_at", "id");
CREATE INDEX "users_last_name_id_idx" ON "crm"."users" ("tenant_id", "last_name", "id");
CREATE INDEX "users_manager_id_idx" ON "crm"."users" ("tenant_id", "manager_id");
CREATE INDEX "users_status_idx" ON "crm"."users" ("tenant_id", "status");
CREATE INDEX "users_search_vector_idx" ON "crm"."users" USING gin ("search_vector");
ALTER TABLE "crm"."users" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."users"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."users" TO "crm_app";
CREATE POLICY "search" ON "crm"."users" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "search_vector") ON "crm"."users" TO "crm_search";

CREATE TABLE "crm"."teams" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(100) COLLATE "C" NOT NULL,
    "description" varchar(32768) COLLATE "C",
    "team_type" varchar(50) COLLATE "C" NOT NULL,
    "parent_team_id" uuid,
    "manager_id" uuid,
    "is_active" boolean NOT NULL,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("name") <> length("name") THEN "crm".search_text("name") ELSE translate(coalesce("name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
    ) STORED,
    CONSTRAINT "teams_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "teams_version_check" CHECK ("version" >= 1),
    CONSTRAINT "teams_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "teams_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "teams_team_type_check" CHECK ("team_type" IN ('functional', 'project', 'cross_functional', 'temporary'))
);
CREATE UNIQUE INDEX "teams_name_key" ON "crm"."teams" ("tenant_id", "name") WHERE "deleted_at" IS NULL;
CREATE INDEX "teams_created_at_id_idx" ON "crm"."teams" ("tenant_id", "created_at", "id");
CREATE INDEX "teams_updated_at_id_idx" ON "crm"."teams" ("tenant_id", "updated_at", "id");
CREATE INDEX "teams_parent_team_id_idx" ON "crm"."teams" ("tenant_id", "parent_team_id");
CREATE INDEX "teams_manager_id_idx" ON "crm"."teams" ("tenant_id", "manager_id");
CREATE INDEX "teams_search_vector_idx" ON "crm"."teams" USING gin ("search_vector");
ALTER TABLE "crm"."teams" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."teams"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."teams" TO "crm_app";
CREATE POLICY "search" ON "crm"."teams" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "search_vector") ON "crm"."teams" TO "crm_search";

CREATE TABLE "crm"."team_members" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "team_id" uuid NOT NULL,
    "user_id" uuid NOT NULL,
    "role" varchar(50) COLLATE "C" NOT NULL,
    "joined_at" timestamptz NOT NULL,
    "left_at" timestamptz,
    CONSTRAINT "team_members_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "team_members_version_check" CHECK ("version" >= 1),
    CONSTRAINT "team_members_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "team_members_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "team_members_role_check" CHECK ("role" IN ('member', 'lead', 'admin'))
);
CREATE UNIQUE INDEX "team_members_team_id_user_id_key" ON "crm"."team_members" ("tenant_id", "team_id", "user_id") WHERE "deleted_at" IS NULL;
CREATE INDEX "team_members_user_id_idx" ON "crm"."team_members" ("tenant_id", "user_id");
CREATE INDEX "team_members_created_at_id_idx" ON "crm"."team_members" ("tenant_id", "created_at", "id");
CREATE INDEX "team_members_updated_at_id_idx" ON "crm"."team_members" ("tenant_id", "updated_at", "id");
CREATE INDEX "team_members_team_id_idx" ON "crm"."team_members" ("tenant_id", "team_id");
ALTER TABLE "crm"."team_members" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."team_members"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."team_members" TO "crm_app";

CREATE TABLE "crm"."territories" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(100) COLLATE "C" NOT NULL,
    "description" varchar(32768) COLLATE "C",
    "territory_type" varchar(50) COLLATE "C" NOT NULL,
    "parent_territory_id" uuid,
    "manager_id" uuid,
    "criteria" jsonb,
    "boundaries" jsonb,
    "rank" bigint NOT NULL,
    "is_active" boolean NOT NULL,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("name") <> length("name") THEN "crm".search_text("name") ELSE translate(coalesce("name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
    ) STORED,
    CONSTRAINT "territories_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "territories_version_check" CHECK ("version" >= 1),
    CONSTRAINT "territories_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "territories_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "territories_territory_type_check" CHECK ("territory_type" IN ('geographic', 'industry', 'account_size', 'product', 'custom')),
    CONSTRAINT "territories_rank_check" CHECK ("rank" BETWEEN -2147483648 AND 2147483647)
);
CREATE UNIQUE INDEX "territories_name_key" ON "crm"."territories" ("tenant_id", "name") WHERE "deleted_at" IS NULL;
CREATE INDEX "territories_created_at_id_idx" ON "crm"."territories" ("tenant_id", "created_at", "id");
CREATE INDEX "territories_updated_at_id_idx" ON "crm"."territories" ("tenant_id", "updated_at", "id");
CREATE INDEX "territories_parent_territory_id_idx" ON "crm"."territories" ("tenant_id", "parent_territory_id");
CREATE INDEX "territories_manager_id_idx" ON "crm"."territories" ("tenant_id", "manager_id");
CREATE INDEX "territories_search_vector_idx" ON "crm"."territories" USING gin ("search_vector");
ALTER TABLE "crm"."territories" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."territories"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."territories" TO "crm_app";
CREATE POLICY "search" ON "crm"."territories" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "search_vector") ON "crm"."territories" TO "crm_search";

CREATE TABLE "crm"."accounts" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(255) COLLATE "C" NOT NULL,
    "account_number" varchar(100) COLLATE "C",
    "account_type" varchar(50) COLLATE "C" NOT NULL,
    "industry" varchar(100) COLLATE "C",
    "sub_industry" varchar(100) COLLATE "C",
    "website" varchar(255) COLLATE "C",
    "description" varchar(32768) COLLATE "C",
    "annual_revenue" numeric(19,2),
    "employee_count" bigint,
    "founded_year" bigint,
    "stock_symbol" varchar(10) COLLATE "C",
    "parent_account_id" uuid,
    "billing_street" varchar(500) COLLATE "C",
    "billing_city" varchar(100) COLLATE "C",
    "billing_region" varchar(100) COLLATE "C",
    "billing_postal_code" varchar(20) COLLATE "C",
    "billing_country" varchar(2) COLLATE "C",
    "shipping_street" varchar(500) COLLATE "C",
    "shipping_city" varchar(100) COLLATE "C",
    "shipping_region" varchar(100) COLLATE "C",
    "shipping_postal_code" varchar(20) COLLATE "C",
    "shipping_country" varchar(2) COLLATE "C",
    "phone" varchar(50) COLLATE "C",
    "phone_e164" varchar(16) COLLATE "C",
    "fax" varchar(50) COLLATE "C",
    "fax_e164" varchar(16) COLLATE "C",
    "email" varchar(254) COLLATE "C",
    "social_profiles" jsonb NOT NULL,
    "territory_id" uuid,
    "territory_is_manual" boolean NOT NULL,
    "owner_id" uuid,
    "account_manager_id" uuid,
    "status" varchar(50) COLLATE "C" NOT NULL,
    "priority" varchar(50) COLLATE "C" NOT NULL,
    "health_score" bigint NOT NULL,
    "deal_count" bigint NOT NULL,
    "total_deal_value" jsonb NOT NULL,
    "won_deal_count" bigint NOT NULL,
    "won_deal_value" jsonb NOT NULL,
    "last_activity_at" timestamptz,
    "next_activity_at" timestamptz,
    "custom_fields" jsonb NOT NULL,
    "tags" text[] COLLATE "C" NOT NULL,
    "email_folded" text COLLATE "C",
    "sealed" bytea,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("name") <> length("name") THEN "crm".search_text("name") ELSE translate(coalesce("name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("description") <> length("description") THEN "crm".search_text("description") ELSE translate(coalesce("description", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'B')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("email") <> length("email") THEN "crm".search_text("email") ELSE translate(coalesce("email", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'C')
    ) STORED,
    CONSTRAINT "accounts_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "accounts_version_check" CHECK ("version" >= 1),
    CONSTRAINT "accounts_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "accounts_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "accounts_account_type_check" CHECK ("account_type" IN ('prospect', 'customer', 'partner', 'vendor', 'competitor', 'former_customer')),
    CONSTRAINT "accounts_annual_revenue_check" CHECK ("annual_revenue" >= 0),
    CONSTRAINT "accounts_employee_count_check" CHECK ("employee_count" BETWEEN 0 AND 2147483647),
    CONSTRAINT "accounts_founded_year_check" CHECK ("founded_year" BETWEEN 1000 AND 9999),
    CONSTRAINT "accounts_status_check" CHECK ("status" IN ('active', 'inactive', 'archived')),
    CONSTRAINT "accounts_priority_check" CHECK ("priority" IN ('low', 'medium', 'high', 'critical')),
    CONSTRAINT "accounts_health_score_check" CHECK ("health_score" BETWEEN 0 AND 100),
    CONSTRAINT "accounts_deal_count_check" CHECK ("deal_count" BETWEEN 0 AND 2147483647),
    CONSTRAINT "accounts_won_deal_count_check" CHECK ("won_deal_count" BETWEEN 0 AND 2147483647)
);
CREATE UNIQUE INDEX "accounts_account_number_key" ON "crm"."accounts" ("tenant_id", "account_number") WHERE "deleted_at" IS NULL;
CREATE INDEX "accounts_owner_id_status_idx" ON "crm"."accounts" ("tenant_id", "owner_id", "status");
CREATE INDEX "accounts_name_id_idx" ON "crm"."accounts" ("tenant_id", "name", "id");
CREATE INDEX "accounts_created_at_id_idx" ON "crm"."accounts" ("tenant_id", "created_at", "id");
CREATE INDEX "accounts_updated_at_id_idx" ON "crm"."accounts" ("tenant_id", "updated_at", "id");
CREATE INDEX "accounts_account_type_idx" ON "crm"."accounts" ("tenant_id", "account_type");
CREATE INDEX "accounts_industry_id_idx" ON "crm"."accounts" ("tenant_id", "industry", "id");
CREATE INDEX "accounts_parent_account_id_idx" ON "crm"."accounts" ("tenant_id", "parent_account_id");
CREATE INDEX "accounts_email_folded_idx" ON "crm"."accounts" ("tenant_id", "email_folded");
CREATE INDEX "accounts_territory_id_idx" ON "crm"."accounts" ("tenant_id", "territory_id");
CREATE INDEX "accounts_account_manager_id_idx" ON "crm"."accounts" ("tenant_id", "account_manager_id");
CREATE INDEX "accounts_health_score_id_idx" ON "crm"."accounts" ("tenant_id", "health_score", "id");
CREATE INDEX "accounts_last_activity_at_id_idx" ON "crm"."accounts" ("tenant_id", "last_activity_at", "id");
CREATE INDEX "accounts_tags_idx" ON "crm"."accounts" USING gin ("tags");
CREATE INDEX "accounts_search_vector_idx" ON "crm"."accounts" USING gin ("search_vector");
ALTER TABLE "crm"."accounts" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."accounts"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."accounts" TO "crm_app";
CREATE POLICY "search" ON "crm"."accounts" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "tags", "search_vector") ON "crm"."accounts" TO "crm_search";

CREATE TABLE "crm"."contacts" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "first_name" varchar(100) COLLATE "C",
    "last_name" varchar(100) COLLATE "C",
    "account_id" uuid,
    "email" varchar(254) COLLATE "C",
    "phone" varchar(50) COLLATE "C",
    "phone_e164" varchar(16) COLLATE "C",
    "mobile" varchar(50) COLLATE "C",
    "mobile_e164" varchar(16) COLLATE "C",
    "company" varchar(255) COLLATE "C",
    "job_title" varchar(150) COLLATE "C",
    "department" varchar(100) COLLATE "C",
    "mailing_street" varchar(500) COLLATE "C",
    "mailing_city" varchar(100) COLLATE "C",
    "mailing_region" varchar(100) COLLATE "C",
    "mailing_postal_code" varchar(20) COLLATE "C",
    "mailing_country" varchar(2) COLLATE "C",
    "social_profiles" jsonb NOT NULL,
    "lead_source" varchar(100) COLLATE "C",
    "preferred_contact_method" varchar(50) COLLATE "C" NOT NULL,
    "do_not_call" boolean NOT NULL,
    "do_not_email" boolean NOT NULL,
    "email_opt_out" boolean NOT NULL,
    "timezone" varchar(50) COLLATE "C" NOT NULL,
    "language" varchar(35) COLLATE "C" NOT NULL,
    "status" varchar(50) COLLATE "C" NOT NULL,
    "description" varchar(32768) COLLATE "C",
    "lead_score" bigint NOT NULL,
    "deal_count" bigint NOT NULL,
    "total_deal_value" jsonb NOT NULL,
    "won_deal_count" bigint NOT NULL,
    "won_deal_value" jsonb NOT NULL,
    "last_contacted_at" timestamptz,
    "last_activity_at" timestamptz,
    "next_activity_at" timestamptz,
    "owner_id" uuid,
    "custom_fields" jsonb NOT NULL,
    "tags" text[] COLLATE "C" NOT NULL,
    "email_folded" text COLLATE "C",
    "sealed" bytea,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("first_name") <> length("first_name") THEN "crm".search_text("first_name") ELSE translate(coalesce("first_name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("last_name") <> length("last_name") THEN "crm".search_text("last_name") ELSE translate(coalesce("last_name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'B')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("email") <> length("email") THEN "crm".search_text("email") ELSE translate(coalesce("email", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'C')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("company") <> length("company") THEN "crm".search_text("company") ELSE translate(coalesce("company", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'D')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("description") <> length("description") THEN "crm".search_text("description") ELSE translate(coalesce("description", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'D')
    ) STORED,
    CONSTRAINT "contacts_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "contacts_version_check" CHECK ("version" >= 1),
    CONSTRAINT "contacts_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "contacts_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "contacts_preferred_contact_method_check" CHECK ("preferred_contact_method" IN ('email', 'phone', 'mobile', 'sms', 'post', 'other')),
    CONSTRAINT "contacts_status_check" CHECK ("status" IN ('active', 'inactive', 'archived', 'deceased')),
    CONSTRAINT "contacts_lead_score_check" CHECK ("lead_score" BETWEEN 0 AND 100),
    CONSTRAINT "contacts_deal_count_check" CHECK ("deal_count" BETWEEN 0 AND 2147483647),
    CONSTRAINT "contacts_won_deal_count_check" CHECK ("won_deal_count" BETWEEN 0 AND 2147483647)
);
CREATE UNIQUE INDEX "contacts_email_folded_key" ON "crm"."contacts" ("tenant_id", "email_folded") WHERE "deleted_at" IS NULL;
CREATE INDEX "contacts_owner_id_created_at_id_idx" ON "crm"."contacts" ("tenant_id", "owner_id", "created_at", "id");
CREATE INDEX "contacts_account_id_status_idx" ON "crm"."contacts" ("tenant_id", "account_id", "status");
CREATE INDEX "contacts_created_at_id_idx" ON "crm"."contacts" ("tenant_id", "created_at", "id");
CREATE INDEX "contacts_updated_at_id_idx" ON "crm"."contacts" ("tenant_id", "updated_at", "id");
CREATE INDEX "contacts_last_name_id_idx" ON "crm"."contacts" ("tenant_id", "last_name", "id");
CREATE INDEX "contacts_lead_source_id_idx" ON "crm"."contacts" ("tenant_id", "lead_source", "id");
CREATE INDEX "contacts_status_idx" ON "crm"."contacts" ("tenant_id", "status");
CREATE INDEX "contacts_last_activity_at_id_idx" ON "crm"."contacts" ("tenant_id", "last_activity_at", "id");
CREATE INDEX "contacts_tags_idx" ON "crm"."contacts" USING gin ("tags");
CREATE INDEX "contacts_search_vector_idx" ON "crm"."contacts" USING gin ("search_vector");
CREATE INDEX "contacts_phone_e164_if_set_idx" ON "crm"."contacts" ("tenant_id", "phone_e164") WHERE "phone_e164" IS NOT NULL;
CREATE INDEX "contacts_mobile_e164_if_set_idx" ON "crm"."contacts" ("tenant_id", "mobile_e164") WHERE "mobile_e164" IS NOT NULL;
CREATE INDEX "contacts_company_if_set_idx" ON "crm"."contacts" ("tenant_id", "company") WHERE "company" IS NOT NULL;
CREATE INDEX "contacts_lead_score_id_if_scored_idx" ON "crm"."contacts" ("tenant_id", "lead_score", "id") WHERE "lead_score" > 0;
ALTER TABLE "crm"."contacts" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."contacts"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."contacts" TO "crm_app";
CREATE POLICY "search" ON "crm"."contacts" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "tags", "search_vector") ON "crm"."contacts" TO "crm_search";

CREATE TABLE "crm"."contact_relationships" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "contact_id" uuid NOT NULL,
    "related_contact_id" uuid NOT NULL,
    "relationship_type" varchar(50) COLLATE "C" NOT NULL,
    "description" varchar(32768) COLLATE "C",
    "is_mutual" boolean NOT NULL,
    "sealed" bytea,
    CONSTRAINT "contact_relationships_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "contact_relationships_version_check" CHECK ("version" >= 1),
    CONSTRAINT "contact_relationships_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "contact_relationships_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "contact_relationships_relationship_type_check" CHECK ("relationship_type" IN ('reports_to', 'manages', 'colleague', 'partner', 'vendor', 'customer'))
);
CREATE UNIQUE INDEX "contact_relationships_contact_id_related__43081e1720" ON "crm"."contact_relationships" ("tenant_id", "contact_id", "related_contact_id", "relationship_type") WHERE "deleted_at" IS NULL;
CREATE INDEX "contact_relationships_related_contact_id__da82432715" ON "crm"."contact_relationships" ("tenant_id", "related_contact_id", "relationship_type");
CREATE INDEX "contact_relationships_created_at_id_idx" ON "crm"."contact_relationships" ("tenant_id", "created_at", "id");
CREATE INDEX "contact_relationships_updated_at_id_idx" ON "crm"."contact_relationships" ("tenant_id", "updated_at", "id");
CREATE INDEX "contact_relationships_contact_id_idx" ON "crm"."contact_relationships" ("tenant_id", "contact_id");
ALTER TABLE "crm"."contact_relationships" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."contact_relationships"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."contact_relationships" TO "crm_app";

CREATE TABLE "crm"."contact_affiliations" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "contact_id" uuid NOT NULL,
    "account_id" uuid NOT NULL,
    "job_title" varchar(150) COLLATE "C",
    "buying_role" varchar(50) COLLATE "C",
    "started_on" date,
    "ended_on" date,
    "is_primary" boolean NOT NULL,
    "sealed" bytea,
    CONSTRAINT "contact_affiliations_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "contact_affiliations_version_check" CHECK ("version" >= 1),
    CONSTRAINT "contact_affiliations_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "contact_affiliations_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "contact_affiliations_buying_role_check" CHECK ("buying_role" IN ('decision_maker', 'economic_buyer', 'champion', 'influencer', 'evaluator', 'technical_buyer', 'blocker', 'gatekeeper', 'user', 'other'))
);
CREATE UNIQUE INDEX "contact_affiliations_contact_id_if_is_primary_key" ON "crm"."contact_affiliations" ("tenant_id", "contact_id") WHERE "deleted_at" IS NULL AND "is_primary";
CREATE INDEX "contact_affiliations_contact_id_ended_on_id_idx" ON "crm"."contact_affiliations" ("tenant_id", "contact_id", "ended_on", "id");
CREATE INDEX "contact_affiliations_account_id_ended_on_id_idx" ON "crm"."contact_affiliations" ("tenant_id", "account_id", "ended_on", "id");
CREATE INDEX "contact_affiliations_created_at_id_idx" ON "crm"."contact_affiliations" ("tenant_id", "created_at", "id");
CREATE INDEX "contact_affiliations_updated_at_id_idx" ON "crm"."contact_affiliations" ("tenant_id", "updated_at", "id");
CREATE INDEX "contact_affiliations_buying_role_idx" ON "crm"."contact_affiliations" ("tenant_id", "buying_role");
ALTER TABLE "crm"."contact_affiliations" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."contact_affiliations"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."contact_affiliations" TO "crm_app";

CREATE TABLE "crm"."campaigns" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(255) COLLATE "C" NOT NULL,
    "description" varchar(32768) COLLATE "C",
    "campaign_type" varchar(50) COLLATE "C" NOT NULL,
    "status" varchar(50) COLLATE "C" NOT NULL,
    "start_date" date,
    "end_date" date,
    "budget" numeric(19,4),
    "actual_cost" numeric(19,4),
    "expected_revenue" numeric(19,4),
    "currency" varchar(3) COLLATE "C" NOT NULL,
    "parent_campaign_id" uuid,
    "owner_id" uuid,
    "custom_fields" jsonb NOT NULL,
    "tags" text[] COLLATE "C" NOT NULL,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("name") <> length("name") THEN "crm".search_text("name") ELSE translate(coalesce("name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("description") <> length("description") THEN "crm".search_text("description") ELSE translate(coalesce("description", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'B')
    ) STORED,
    CONSTRAINT "campaigns_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "campaigns_version_check" CHECK ("version" >= 1),
    CONSTRAINT "campaigns_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "campaigns_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "campaigns_campaign_type_check" CHECK ("campaign_type" IN ('email', 'event', 'webinar', 'advertising', 'social_media', 'content', 'telephone', 'direct_mail', 'referral', 'other')),
    CONSTRAINT "campaigns_status_check" CHECK ("status" IN ('planned', 'active', 'paused', 'completed', 'cancelled')),
    CONSTRAINT "campaigns_budget_check" CHECK ("budget" >= 0),
    CONSTRAINT "campaigns_actual_cost_check" CHECK ("actual_cost" >= 0),
    CONSTRAINT "campaigns_expected_revenue_check" CHECK ("expected_revenue" >= 0)
);
CREATE INDEX "campaigns_status_start_date_id_idx" ON "crm"."campaigns" ("tenant_id", "status", "start_date", "id");
CREATE INDEX "campaigns_created_at_id_idx" ON "crm"."campaigns" ("tenant_id", "created_at", "id");
CREATE INDEX "campaigns_updated_at_id_idx" ON "crm"."campaigns" ("tenant_id", "updated_at", "id");
CREATE INDEX "campaigns_name_id_idx" ON "crm"."campaigns" ("tenant_id", "name", "id");
CREATE INDEX "campaigns_campaign_type_idx" ON "crm"."campaigns" ("tenant_id", "campaign_type");
CREATE INDEX "campaigns_parent_campaign_id_idx" ON "crm"."campaigns" ("tenant_id", "parent_campaign_id");
CREATE INDEX "campaigns_owner_id_idx" ON "crm"."campaigns" ("tenant_id", "owner_id");
CREATE INDEX "campaigns_tags_idx" ON "crm"."campaigns" USING gin ("tags");
CREATE INDEX "campaigns_search_vector_idx" ON "crm"."campaigns" USING gin ("search_vector");
ALTER TABLE "crm"."campaigns" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."campaigns"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."campaigns" TO "crm_app";
CREATE POLICY "search" ON "crm"."campaigns" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "tags", "search_vector") ON "crm"."campaigns" TO "crm_search";

CREATE TABLE "crm"."pipelines" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(255) COLLATE "C" NOT NULL,
    "description" varchar(32768) COLLATE "C",
    "pipeline_type" varchar(50) COLLATE "C" NOT NULL,
    "is_default" boolean NOT NULL,
    "is_active" boolean NOT NULL,
    "currency" varchar(3) COLLATE "C" NOT NULL,
    "probability_calculation" varchar(50) COLLATE "C" NOT NULL,
    "stage_order_enforced" boolean NOT NULL,
    "custom_fields" jsonb NOT NULL,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("name") <> length("name") THEN "crm".search_text("name") ELSE translate(coalesce("name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
    ) STORED,
    CONSTRAINT "pipelines_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "pipelines_version_check" CHECK ("version" >= 1),
    CONSTRAINT "pipelines_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "pipelines_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "pipelines_pipeline_type_check" CHECK ("pipeline_type" IN ('sales', 'marketing', 'support', 'custom')),
    CONSTRAINT "pipelines_probability_calculation_check" CHECK ("probability_calculation" IN ('manual', 'automatic', 'stage_based'))
);
CREATE UNIQUE INDEX "pipelines_name_key" ON "crm"."pipelines" ("tenant_id", "name") WHERE "deleted_at" IS NULL;
CREATE UNIQUE INDEX "pipelines_is_default_if_is_default_key" ON "crm"."pipelines" ("tenant_id", "is_default") WHERE "deleted_at" IS NULL AND "is_default";
CREATE INDEX "pipelines_created_at_id_idx" ON "crm"."pipelines" ("tenant_id", "created_at", "id");
CREATE INDEX "pipelines_updated_at_id_idx" ON "crm"."pipelines" ("tenant_id", "updated_at", "id");
CREATE INDEX "pipelines_search_vector_idx" ON "crm"."pipelines" USING gin ("search_vector");
ALTER TABLE "crm"."pipelines" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."pipelines"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."pipelines" TO "crm_app";
CREATE POLICY "search" ON "crm"."pipelines" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "search_vector") ON "crm"."pipelines" TO "crm_search";

CREATE TABLE "crm"."pipeline_stages" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "pipeline_id" uuid NOT NULL,
    "name" varchar(255) COLLATE "C" NOT NULL,
    "stage_order" bigint NOT NULL,
    "description" varchar(32768) COLLATE "C",
    "default_probability" numeric(5,2) NOT NULL,
    "stage_type" varchar(50) COLLATE "C" NOT NULL,
    "forecast_category" varchar(50) COLLATE "C",
    "historic_probability" numeric(5,2),
    "historic_sample" bigint,
    "required_fields" text[] COLLATE "C" NOT NULL,
    "entry_criteria" jsonb,
    "entry_condition" varchar(4000) COLLATE "C",
    "entry_condition_message" varchar(500) COLLATE "C",
    "allowed_next_stages" jsonb NOT NULL,
    "minimum_hours" bigint,
    "approval" jsonb,
    "rotting_after_days" bigint,
    "color" varchar(7) COLLATE "C" NOT NULL,
    "icon" varchar(50) COLLATE "C",
    "is_active" boolean NOT NULL,
    CONSTRAINT "pipeline_stages_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "pipeline_stages_version_check" CHECK ("version" >= 1),
    CONSTRAINT "pipeline_stages_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "pipeline_stages_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "pipeline_stages_stage_order_check" CHECK ("stage_order" BETWEEN 1 AND 2147483647),
    CONSTRAINT "pipeline_stages_default_probability_check" CHECK ("default_probability" BETWEEN 0 AND 100),
    CONSTRAINT "pipeline_stages_stage_type_check" CHECK ("stage_type" IN ('open', 'closed_won', 'closed_lost')),
    CONSTRAINT "pipeline_stages_forecast_category_check" CHECK ("forecast_category" IN ('pipeline', 'best_case', 'commit', 'worst_case', 'closed', 'omitted')),
    CONSTRAINT "pipeline_stages_historic_probability_check" CHECK ("historic_probability" BETWEEN 0 AND 100),
    CONSTRAINT "pipeline_stages_historic_sample_check" CHECK ("historic_sample" >= 0),
    CONSTRAINT "pipeline_stages_minimum_hours_check" CHECK ("minimum_hours" BETWEEN 0 AND 87600),
    CONSTRAINT "pipeline_stages_rotting_after_days_check" CHECK ("rotting_after_days" BETWEEN 1 AND 36500)
);
CREATE UNIQUE INDEX "pipeline_stages_pipeline_id_name_key" ON "crm"."pipeline_stages" ("tenant_id", "pipeline_id", "name") WHERE "deleted_at" IS NULL;
CREATE UNIQUE INDEX "pipeline_stages_pipeline_id_stage_order_key" ON "crm"."pipeline_stages" ("tenant_id", "pipeline_id", "stage_order") WHERE "deleted_at" IS NULL;
CREATE INDEX "pipeline_stages_created_at_id_idx" ON "crm"."pipeline_stages" ("tenant_id", "created_at", "id");
CREATE INDEX "pipeline_stages_updated_at_id_idx" ON "crm"."pipeline_stages" ("tenant_id", "updated_at", "id");
CREATE INDEX "pipeline_stages_pipeline_id_idx" ON "crm"."pipeline_stages" ("tenant_id", "pipeline_id");
CREATE INDEX "pipeline_stages_required_fields_idx" ON "crm"."pipeline_stages" USING gin ("required_fields");
ALTER TABLE "crm"."pipeline_stages" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."pipeline_stages"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."pipeline_stages" TO "crm_app";
CREATE POLICY "search" ON "crm"."pipeline_stages" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "required_fields") ON "crm"."pipeline_stages" TO "crm_search";

CREATE TABLE "crm"."exchange_rates" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "from_currency" varchar(3) COLLATE "C" NOT NULL,
    "to_currency" varchar(3) COLLATE "C" NOT NULL,
    "effective_date" date NOT NULL,
    "rate" numeric(22,10) NOT NULL,
    "source" varchar(255) COLLATE "C",
    CONSTRAINT "exchange_rates_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "exchange_rates_version_check" CHECK ("version" >= 1),
    CONSTRAINT "exchange_rates_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "exchange_rates_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "exchange_rates_rate_check" CHECK ("rate" >= 0)
);
CREATE UNIQUE INDEX "exchange_rates_from_currency_to_currency__ce045a3ab5" ON "crm"."exchange_rates" ("tenant_id", "from_currency", "to_currency", "effective_date") WHERE "deleted_at" IS NULL;
CREATE INDEX "exchange_rates_effective_date_id_idx" ON "crm"."exchange_rates" ("tenant_id", "effective_date", "id");
CREATE INDEX "exchange_rates_created_at_id_idx" ON "crm"."exchange_rates" ("tenant_id", "created_at", "id");
CREATE INDEX "exchange_rates_updated_at_id_idx" ON "crm"."exchange_rates" ("tenant_id", "updated_at", "id");
ALTER TABLE "crm"."exchange_rates" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."exchange_rates"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."exchange_rates" TO "crm_app";

CREATE TABLE "crm"."products" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(255) COLLATE "C" NOT NULL,
    "sku" varchar(100) COLLATE "C",
    "description" varchar(32768) COLLATE "C",
    "category" varchar(100) COLLATE "C",
    "unit_price" numeric(19,4),
    "currency" varchar(3) COLLATE "C" NOT NULL,
    "is_active" boolean NOT NULL,
    "custom_fields" jsonb NOT NULL,
    "sku_folded" text COLLATE "C",
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("name") <> length("name") THEN "crm".search_text("name") ELSE translate(coalesce("name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("sku") <> length("sku") THEN "crm".search_text("sku") ELSE translate(coalesce("sku", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'B')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("description") <> length("description") THEN "crm".search_text("description") ELSE translate(coalesce("description", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'C')
    ) STORED,
    CONSTRAINT "products_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "products_version_check" CHECK ("version" >= 1),
    CONSTRAINT "products_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "products_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "products_unit_price_check" CHECK ("unit_price" >= 0)
);
CREATE UNIQUE INDEX "products_sku_folded_key" ON "crm"."products" ("tenant_id", "sku_folded") WHERE "deleted_at" IS NULL;
CREATE INDEX "products_category_is_active_idx" ON "crm"."products" ("tenant_id", "category", "is_active");
CREATE INDEX "products_created_at_id_idx" ON "crm"."products" ("tenant_id", "created_at", "id");
CREATE INDEX "products_updated_at_id_idx" ON "crm"."products" ("tenant_id", "updated_at", "id");
CREATE INDEX "products_search_vector_idx" ON "crm"."products" USING gin ("search_vector");
ALTER TABLE "crm"."products" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."products"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."products" TO "crm_app";
CREATE POLICY "search" ON "crm"."products" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "search_vector") ON "crm"."products" TO "crm_search";

CREATE TABLE "crm"."product_prices" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "product_id" uuid NOT NULL,
    "currency" varchar(3) COLLATE "C" NOT NULL,
    "unit_price" numeric(19,4) NOT NULL,
    CONSTRAINT "product_prices_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "product_prices_version_check" CHECK ("version" >= 1),
    CONSTRAINT "product_prices_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "product_prices_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "product_prices_unit_price_check" CHECK ("unit_price" >= 0)
);
CREATE UNIQUE INDEX "product_prices_product_id_currency_key" ON "crm"."product_prices" ("tenant_id", "product_id", "currency") WHERE "deleted_at" IS NULL;
CREATE INDEX "product_prices_created_at_id_idx" ON "crm"."product_prices" ("tenant_id", "created_at", "id");
CREATE INDEX "product_prices_updated_at_id_idx" ON "crm"."product_prices" ("tenant_id", "updated_at", "id");
CREATE INDEX "product_prices_product_id_idx" ON "crm"."product_prices" ("tenant_id", "product_id");
ALTER TABLE "crm"."product_prices" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."product_prices"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."product_prices" TO "crm_app";

CREATE TABLE "crm"."deals" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(255) COLLATE "C" NOT NULL,
    "pipeline_id" uuid NOT NULL,
    "stage_id" uuid NOT NULL,
    "description" varchar(32768) COLLATE "C",
    "amount" numeric(19,4),
    "currency" varchar(3) COLLATE "C" NOT NULL,
    "status" varchar(50) COLLATE "C" NOT NULL,
    "probability" numeric(5,2),
    "win_probability" numeric(5,2) NOT NULL,
    "forecast_category" varchar(50) COLLATE "C",
    "counting_category" varchar(50) COLLATE "C" NOT NULL,
    "expected_close_date" date,
    "actual_close_date" date,
    "close_reason" varchar(100) COLLATE "C",
    "deal_type" varchar(50) COLLATE "C",
    "lead_source" varchar(100) COLLATE "C",
    "campaign_id" uuid,
    "competitor" varchar(255) COLLATE "C",
    "next_step" varchar(32768) COLLATE "C",
    "account_id" uuid,
    "contact_id" uuid,
    "owner_id" uuid,
    "team_id" uuid,
    "priority" varchar(50) COLLATE "C" NOT NULL,
    "stage_entered_at" timestamptz,
    "last_activity_at" timestamptz,
    "next_activity_at" timestamptz,
    "locked_currency" varchar(3) COLLATE "C",
    "locked_rate" numeric(28,14),
    "locked_rate_date" date,
    "locked_amount" numeric(19,4),
    "custom_fields" jsonb NOT NULL,
    "tags" text[] COLLATE "C" NOT NULL,
    "amount_rounded" double precision,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("name") <> length("name") THEN "crm".search_text("name") ELSE translate(coalesce("name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("description") <> length("description") THEN "crm".search_text("description") ELSE translate(coalesce("description", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'B')
    ) STORED,
    CONSTRAINT "deals_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "deals_version_check" CHECK ("version" >= 1),
    CONSTRAINT "deals_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "deals_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "deals_amount_check" CHECK ("amount" >= 0),
    CONSTRAINT "deals_status_check" CHECK ("status" IN ('open', 'won', 'lost')),
    CONSTRAINT "deals_probability_check" CHECK ("probability" BETWEEN 0 AND 100),
    CONSTRAINT "deals_win_probability_check" CHECK ("win_probability" BETWEEN 0 AND 100),
    CONSTRAINT "deals_forecast_category_check" CHECK ("forecast_category" IN ('pipeline', 'best_case', 'commit', 'worst_case', 'closed', 'omitted')),
    CONSTRAINT "deals_counting_category_check" CHECK ("counting_category" IN ('pipeline', 'best_case', 'commit', 'worst_case', 'closed', 'omitted')),
    CONSTRAINT "deals_deal_type_check" CHECK ("deal_type" IN ('new_business', 'existing_business', 'renewal', 'upsell', 'cross_sell')),
    CONSTRAINT "deals_priority_check" CHECK ("priority" IN ('low', 'medium', 'high', 'urgent')),
    CONSTRAINT "deals_locked_rate_check" CHECK ("locked_rate" >= 0),
    CONSTRAINT "deals_locked_amount_check" CHECK ("locked_amount" >= 0)
);
CREATE INDEX "deals_owner_id_status_idx" ON "crm"."deals" ("tenant_id", "owner_id", "status");
CREATE INDEX "deals_pipeline_id_stage_id_idx" ON "crm"."deals" ("tenant_id", "pipeline_id", "stage_id");
CREATE INDEX "deals_stage_id_stage_entered_at_id_idx" ON "crm"."deals" ("tenant_id", "stage_id", "stage_entered_at", "id");
CREATE INDEX "deals_status_expected_close_date_id_idx" ON "crm"."deals" ("tenant_id", "status", "expected_close_date", "id");
CREATE INDEX "deals_status_actual_close_date_id_idx" ON "crm"."deals" ("tenant_id", "status", "actual_close_date", "id");
CREATE INDEX "deals_status_stage_entered_at_id_idx" ON "crm"."deals" ("tenant_id", "status", "stage_entered_at", "id");
CREATE INDEX "deals_created_at_id_idx" ON "crm"."deals" ("tenant_id", "created_at", "id");
CREATE INDEX "deals_updated_at_id_idx" ON "crm"."deals" ("tenant_id", "updated_at", "id");
CREATE INDEX "deals_amount_rounded_amount_id_idx" ON "crm"."deals" ("tenant_id", "amount_rounded", "amount", "id");
CREATE INDEX "deals_expected_close_date_id_idx" ON "crm"."deals" ("tenant_id", "expected_close_date", "id");
CREATE INDEX "deals_actual_close_date_id_idx" ON "crm"."deals" ("tenant_id", "actual_close_date", "id");
CREATE INDEX "deals_lead_source_id_idx" ON "crm"."deals" ("tenant_id", "lead_source", "id");
CREATE INDEX "deals_campaign_id_idx" ON "crm"."deals" ("tenant_id", "campaign_id");
CREATE INDEX "deals_account_id_idx" ON "crm"."deals" ("tenant_id", "account_id");
CREATE INDEX "deals_contact_id_idx" ON "crm"."deals" ("tenant_id", "contact_id");
CREATE INDEX "deals_team_id_idx" ON "crm"."deals" ("tenant_id", "team_id");
CREATE INDEX "deals_last_activity_at_id_idx" ON "crm"."deals" ("tenant_id", "last_activity_at", "id");
CREATE INDEX "deals_tags_idx" ON "crm"."deals" USING gin ("tags");
CREATE INDEX "deals_search_vector_idx" ON "crm"."deals" USING gin ("search_vector");
ALTER TABLE "crm"."deals" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."deals"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."deals" TO "crm_app";
CREATE POLICY "search" ON "crm"."deals" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "tags", "search_vector") ON "crm"."deals" TO "crm_search";

CREATE TABLE "crm"."deal_stage_history" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "deal_id" uuid NOT NULL,
    "to_stage_id" uuid NOT NULL,
    "to_stage" varchar(255) COLLATE "C" NOT NULL,
    "to_probability" numeric(5,2) NOT NULL,
    "from_stage_id" uuid,
    "from_stage" varchar(255) COLLATE "C",
    "from_probability" numeric(5,2),
    "seconds_in_stage" bigint,
    "note" varchar(32768) COLLATE "C",
    CONSTRAINT "deal_stage_history_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "deal_stage_history_version_check" CHECK ("version" >= 1),
    CONSTRAINT "deal_stage_history_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "deal_stage_history_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "deal_stage_history_to_probability_check" CHECK ("to_probability" BETWEEN 0 AND 100),
    CONSTRAINT "deal_stage_history_from_probability_check" CHECK ("from_probability" BETWEEN 0 AND 100),
    CONSTRAINT "deal_stage_history_seconds_in_stage_check" CHECK ("seconds_in_stage" >= 0)
);
CREATE INDEX "deal_stage_history_created_at_id_idx" ON "crm"."deal_stage_history" ("tenant_id", "created_at", "id");
CREATE INDEX "deal_stage_history_deal_id_idx" ON "crm"."deal_stage_history" ("tenant_id", "deal_id");
ALTER TABLE "crm"."deal_stage_history" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."deal_stage_history"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."deal_stage_history" TO "crm_app";

CREATE TABLE "crm"."deal_products" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "deal_id" uuid NOT NULL,
    "position" bigint NOT NULL,
    "product_id" uuid,
    "product_name" varchar(255) COLLATE "C" NOT NULL,
    "product_code" varchar(100) COLLATE "C",
    "description" varchar(32768) COLLATE "C",
    "quantity" numeric(15,4) NOT NULL,
    "unit_price" numeric(19,4) NOT NULL,
    "currency" varchar(3) COLLATE "C" NOT NULL,
    "discount_kind" varchar(50) COLLATE "C" NOT NULL,
    "discount_percent" numeric(5,2),
    "discount_amount" numeric(19,4),
    "line_total" numeric(19,4) NOT NULL,
    "custom_fields" jsonb NOT NULL,
    CONSTRAINT "deal_products_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "deal_products_version_check" CHECK ("version" >= 1),
    CONSTRAINT "deal_products_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "deal_products_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "deal_products_position_check" CHECK ("position" BETWEEN 0 AND 2147483647),
    CONSTRAINT "deal_products_quantity_check" CHECK ("quantity" >= 0),
    CONSTRAINT "deal_products_unit_price_check" CHECK ("unit_price" >= 0),
    CONSTRAINT "deal_products_discount_kind_check" CHECK ("discount_kind" IN ('none', 'percent', 'amount', 'percent_then_amount')),
    CONSTRAINT "deal_products_discount_percent_check" CHECK ("discount_percent" BETWEEN 0 AND 100),
    CONSTRAINT "deal_products_discount_amount_check" CHECK ("discount_amount" >= 0),
    CONSTRAINT "deal_products_line_total_check" CHECK ("line_total" >= 0)
);
CREATE INDEX "deal_products_deal_id_position_id_idx" ON "crm"."deal_products" ("tenant_id", "deal_id", "position", "id");
CREATE INDEX "deal_products_created_at_id_idx" ON "crm"."deal_products" ("tenant_id", "created_at", "id");
CREATE INDEX "deal_products_updated_at_id_idx" ON "crm"."deal_products" ("tenant_id", "updated_at", "id");
CREATE INDEX "deal_products_product_id_idx" ON "crm"."deal_products" ("tenant_id", "product_id");
ALTER TABLE "crm"."deal_products" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."deal_products"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."deal_products" TO "crm_app";
CREATE POLICY "search" ON "crm"."deal_products" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at") ON "crm"."deal_products" TO "crm_search";

CREATE TABLE "crm"."pipeline_analytics" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "pipeline_id" uuid NOT NULL,
    "stage_id" uuid NOT NULL,
    "metric_date" date NOT NULL,
    "metric_type" varchar(50) COLLATE "C" NOT NULL,
    "metric_value" numeric(20,2) NOT NULL,
    "deal_count" bigint NOT NULL,
    "total_value" numeric(19,4) NOT NULL,
    "currency" varchar(3) COLLATE "C" NOT NULL,
    "conversion_rate" numeric(5,2),
    "average_seconds_in_stage" bigint,
    CONSTRAINT "pipeline_analytics_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "pipeline_analytics_version_check" CHECK ("version" >= 1),
    CONSTRAINT "pipeline_analytics_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "pipeline_analytics_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "pipeline_analytics_metric_type_check" CHECK ("metric_type" IN ('deals_entered', 'deals_exited', 'deals_won', 'deals_lost', 'velocity', 'conversion')),
    CONSTRAINT "pipeline_analytics_deal_count_check" CHECK ("deal_count" >= 0),
    CONSTRAINT "pipeline_analytics_conversion_rate_check" CHECK ("conversion_rate" BETWEEN 0 AND 100),
    CONSTRAINT "pipeline_analytics_average_seconds_in_stage_check" CHECK ("average_seconds_in_stage" >= 0)
);
CREATE UNIQUE INDEX "pipeline_analytics_pipeline_id_stage_id_m_d72edf0462" ON "crm"."pipeline_analytics" ("tenant_id", "pipeline_id", "stage_id", "metric_date", "metric_type") WHERE "deleted_at" IS NULL;
CREATE INDEX "pipeline_analytics_metric_date_pipeline_id_idx" ON "crm"."pipeline_analytics" ("tenant_id", "metric_date", "pipeline_id");
CREATE INDEX "pipeline_analytics_pipeline_id_idx" ON "crm"."pipeline_analytics" ("tenant_id", "pipeline_id");
ALTER TABLE "crm"."pipeline_analytics" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."pipeline_analytics"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."pipeline_analytics" TO "crm_app";

CREATE TABLE "crm"."deal_states" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "deal_id" uuid NOT NULL,
    "deal_created_at" timestamptz NOT NULL,
    "valid_from" timestamptz NOT NULL,
    "valid_until" timestamptz,
    "is_counted" boolean NOT NULL,
    "pipeline_id" uuid NOT NULL,
    "stage_id" uuid NOT NULL,
    "stage_entered_at" timestamptz,
    "status" varchar(50) COLLATE "C" NOT NULL,
    "amount" numeric(19,4),
    "currency" varchar(3) COLLATE "C" NOT NULL,
    "win_probability" numeric(5,2) NOT NULL,
    "counting_category" varchar(50) COLLATE "C" NOT NULL,
    "expected_close_date" date,
    "actual_close_date" date,
    "owner_id" uuid,
    "team_id" uuid,
    "account_id" uuid,
    "locked_currency" varchar(3) COLLATE "C",
    "locked_rate" numeric(28,14),
    "locked_rate_date" date,
    "locked_amount" numeric(19,4),
    CONSTRAINT "deal_states_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "deal_states_version_check" CHECK ("version" >= 1),
    CONSTRAINT "deal_states_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "deal_states_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "deal_states_status_check" CHECK ("status" IN ('open', 'won', 'lost')),
    CONSTRAINT "deal_states_win_probability_check" CHECK ("win_probability" BETWEEN 0 AND 100),
    CONSTRAINT "deal_states_counting_category_check" CHECK ("counting_category" IN ('pipeline', 'best_case', 'commit', 'worst_case', 'closed', 'omitted')),
    CONSTRAINT "deal_states_locked_rate_check" CHECK ("locked_rate" >= 0),
    CONSTRAINT "deal_states_locked_amount_check" CHECK ("locked_amount" >= 0)
);
CREATE INDEX "deal_states_deal_id_valid_from_id_idx" ON "crm"."deal_states" ("tenant_id", "deal_id", "valid_from", "id");
CREATE INDEX "deal_states_pipeline_id_valid_until_id_idx" ON "crm"."deal_states" ("tenant_id", "pipeline_id", "valid_until", "id");
CREATE INDEX "deal_states_pipeline_id_valid_from_id_idx" ON "crm"."deal_states" ("tenant_id", "pipeline_id", "valid_from", "id");
CREATE INDEX "deal_states_valid_until_id_idx" ON "crm"."deal_states" ("tenant_id", "valid_until", "id");
CREATE INDEX "deal_states_status_expected_close_date_va_6a0ef748ed" ON "crm"."deal_states" ("tenant_id", "status", "expected_close_date", "valid_from", "id");
CREATE INDEX "deal_states_status_actual_close_date_vali_bde6c411c7" ON "crm"."deal_states" ("tenant_id", "status", "actual_close_date", "valid_from", "id");
ALTER TABLE "crm"."deal_states" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."deal_states"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."deal_states" TO "crm_app";

CREATE TABLE "crm"."deal_forecasts" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "deal_id" uuid NOT NULL,
    "period" varchar(50) COLLATE "C" NOT NULL,
    "period_start" date NOT NULL,
    "forecast_date" date NOT NULL,
    "amount" numeric(19,4) NOT NULL,
    "currency" varchar(3) COLLATE "C" NOT NULL,
    "probability" numeric(5,2) NOT NULL,
    "category" varchar(50) COLLATE "C" NOT NULL,
    "confidence_level" bigint NOT NULL,
    "close_date" date,
    "owner_id" uuid,
    "team_id" uuid,
    "pipeline_id" uuid,
    "notes" varchar(32768) COLLATE "C",
    CONSTRAINT "deal_forecasts_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "deal_forecasts_version_check" CHECK ("version" >= 1),
    CONSTRAINT "deal_forecasts_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "deal_forecasts_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "deal_forecasts_period_check" CHECK ("period" IN ('monthly', 'quarterly', 'yearly')),
    CONSTRAINT "deal_forecasts_probability_check" CHECK ("probability" BETWEEN 0 AND 100),
    CONSTRAINT "deal_forecasts_category_check" CHECK ("category" IN ('pipeline', 'best_case', 'commit', 'worst_case', 'closed', 'omitted')),
    CONSTRAINT "deal_forecasts_confidence_level_check" CHECK ("confidence_level" BETWEEN 0 AND 100)
);
CREATE UNIQUE INDEX "deal_forecasts_deal_id_period_forecast_date_key" ON "crm"."deal_forecasts" ("tenant_id", "deal_id", "period", "forecast_date");
CREATE INDEX "deal_forecasts_period_period_start_foreca_82afad68df" ON "crm"."deal_forecasts" ("tenant_id", "period", "period_start", "forecast_date", "id");
CREATE INDEX "deal_forecasts_created_at_id_idx" ON "crm"."deal_forecasts" ("tenant_id", "created_at", "id");
CREATE INDEX "deal_forecasts_deal_id_idx" ON "crm"."deal_forecasts" ("tenant_id", "deal_id");
ALTER TABLE "crm"."deal_forecasts" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."deal_forecasts"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."deal_forecasts" TO "crm_app";

CREATE TABLE "crm"."forecast_adjustments" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "user_id" uuid,
    "team_id" uuid,
    "territory_id" uuid,
    "period" varchar(50) COLLATE "C" NOT NULL,
    "period_start" date NOT NULL,
    "category" varchar(50) COLLATE "C" NOT NULL,
    "kind" varchar(50) COLLATE "C" NOT NULL,
    "currency" varchar(3) COLLATE "C" NOT NULL,
    "amount" numeric(19,4) NOT NULL,
    "effect" varchar(50) COLLATE "C" NOT NULL,
    "note" varchar(32768) COLLATE "C" NOT NULL,
    CONSTRAINT "forecast_adjustments_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "forecast_adjustments_version_check" CHECK ("version" >= 1),
    CONSTRAINT "forecast_adjustments_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "forecast_adjustments_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "forecast_adjustments_period_check" CHECK ("period" IN ('monthly', 'quarterly', 'yearly')),
    CONSTRAINT "forecast_adjustments_category_check" CHECK ("category" IN ('pipeline', 'best_case', 'commit', 'worst_case', 'closed', 'omitted')),
    CONSTRAINT "forecast_adjustments_kind_check" CHECK ("kind" IN ('owner', 'manager')),
    CONSTRAINT "forecast_adjustments_effect_check" CHECK ("effect" IN ('replace', 'add'))
);
CREATE UNIQUE INDEX "forecast_adjustments_user_id_period_perio_1d4520b704" ON "crm"."forecast_adjustments" ("tenant_id", "user_id", "period", "period_start", "category", "currency", "kind") WHERE "deleted_at" IS NULL;
CREATE UNIQUE INDEX "forecast_adjustments_team_id_period_perio_92a1498eac" ON "crm"."forecast_adjustments" ("tenant_id", "team_id", "period", "period_start", "category", "currency", "kind") WHERE "deleted_at" IS NULL;
CREATE UNIQUE INDEX "forecast_adjustments_territory_id_period__ecf6761ba7" ON "crm"."forecast_adjustments" ("tenant_id", "territory_id", "period", "period_start", "category", "currency", "kind") WHERE "deleted_at" IS NULL;
CREATE INDEX "forecast_adjustments_period_period_start_id_idx" ON "crm"."forecast_adjustments" ("tenant_id", "period", "period_start", "id");
CREATE INDEX "forecast_adjustments_created_at_id_idx" ON "crm"."forecast_adjustments" ("tenant_id", "created_at", "id");
CREATE INDEX "forecast_adjustments_updated_at_id_idx" ON "crm"."forecast_adjustments" ("tenant_id", "updated_at", "id");
CREATE INDEX "forecast_adjustments_user_id_idx" ON "crm"."forecast_adjustments" ("tenant_id", "user_id");
CREATE INDEX "forecast_adjustments_team_id_idx" ON "crm"."forecast_adjustments" ("tenant_id", "team_id");
CREATE INDEX "forecast_adjustments_territory_id_idx" ON "crm"."forecast_adjustments" ("tenant_id", "territory_id");
ALTER TABLE "crm"."forecast_adjustments" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."forecast_adjustments"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."forecast_adjustments" TO "crm_app";

CREATE TABLE "crm"."quotas" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "user_id" uuid,
    "team_id" uuid,
    "territory_id" uuid,
    "period" varchar(50) COLLATE "C" NOT NULL,
    "period_start" date NOT NULL,
    "currency" varchar(3) COLLATE "C" NOT NULL,
    "amount" numeric(19,4) NOT NULL,
    "note" varchar(32768) COLLATE "C",
    CONSTRAINT "quotas_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "quotas_version_check" CHECK ("version" >= 1),
    CONSTRAINT "quotas_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "quotas_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "quotas_period_check" CHECK ("period" IN ('monthly', 'quarterly', 'yearly')),
    CONSTRAINT "quotas_amount_check" CHECK ("amount" >= 0)
);
CREATE UNIQUE INDEX "quotas_user_id_period_period_start_currency_key" ON "crm"."quotas" ("tenant_id", "user_id", "period", "period_start", "currency") WHERE "deleted_at" IS NULL;
CREATE UNIQUE INDEX "quotas_team_id_period_period_start_currency_key" ON "crm"."quotas" ("tenant_id", "team_id", "period", "period_start", "currency") WHERE "deleted_at" IS NULL;
CREATE UNIQUE INDEX "quotas_territory_id_period_period_start_currency_key" ON "crm"."quotas" ("tenant_id", "territory_id", "period", "period_start", "currency") WHERE "deleted_at" IS NULL;
CREATE INDEX "quotas_period_period_start_id_idx" ON "crm"."quotas" ("tenant_id", "period", "period_start", "id");
CREATE INDEX "quotas_created_at_id_idx" ON "crm"."quotas" ("tenant_id", "created_at", "id");
CREATE INDEX "quotas_updated_at_id_idx" ON "crm"."quotas" ("tenant_id", "updated_at", "id");
CREATE INDEX "quotas_user_id_idx" ON "crm"."quotas" ("tenant_id", "user_id");
CREATE INDEX "quotas_team_id_idx" ON "crm"."quotas" ("tenant_id", "team_id");
CREATE INDEX "quotas_territory_id_idx" ON "crm"."quotas" ("tenant_id", "territory_id");
ALTER TABLE "crm"."quotas" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."quotas"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."quotas" TO "crm_app";

CREATE TABLE "crm"."stage_approvals" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "deal_id" uuid NOT NULL,
    "stage_id" uuid NOT NULL,
    "request_note" varchar(32768) COLLATE "C",
    "status" varchar(50) COLLATE "C" NOT NULL,
    "requested_by_id" uuid,
    "requested_for" uuid,
    "amount" numeric(19,4),
    "currency" varchar(3) COLLATE "C" NOT NULL,
    "decided_by_id" uuid,
    "decided_at" timestamptz,
    "decision_note" varchar(32768) COLLATE "C",
    "used_at" timestamptz,
    CONSTRAINT "stage_approvals_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "stage_approvals_version_check" CHECK ("version" >= 1),
    CONSTRAINT "stage_approvals_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "stage_approvals_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "stage_approvals_status_check" CHECK ("status" IN ('requested', 'approved', 'rejected', 'used'))
);
CREATE INDEX "stage_approvals_deal_id_stage_id_idx" ON "crm"."stage_approvals" ("tenant_id", "deal_id", "stage_id");
CREATE INDEX "stage_approvals_status_created_at_id_idx" ON "crm"."stage_approvals" ("tenant_id", "status", "created_at", "id");
CREATE INDEX "stage_approvals_created_at_id_idx" ON "crm"."stage_approvals" ("tenant_id", "created_at", "id");
CREATE INDEX "stage_approvals_updated_at_id_idx" ON "crm"."stage_approvals" ("tenant_id", "updated_at", "id");
CREATE INDEX "stage_approvals_stage_id_idx" ON "crm"."stage_approvals" ("tenant_id", "stage_id");
CREATE INDEX "stage_approvals_requested_by_id_idx" ON "crm"."stage_approvals" ("tenant_id", "requested_by_id");
CREATE INDEX "stage_approvals_decided_by_id_idx" ON "crm"."stage_approvals" ("tenant_id", "decided_by_id");
ALTER TABLE "crm"."stage_approvals" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."stage_approvals"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."stage_approvals" TO "crm_app";

CREATE TABLE "crm"."deal_contacts" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "deal_id" uuid NOT NULL,
    "contact_id" uuid NOT NULL,
    "role" varchar(50) COLLATE "C",
    "is_primary" boolean NOT NULL,
    "notes" varchar(32768) COLLATE "C",
    "sealed" bytea,
    CONSTRAINT "deal_contacts_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "deal_contacts_version_check" CHECK ("version" >= 1),
    CONSTRAINT "deal_contacts_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "deal_contacts_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "deal_contacts_role_check" CHECK ("role" IN ('decision_maker', 'economic_buyer', 'champion', 'influencer', 'evaluator', 'technical_buyer', 'blocker', 'gatekeeper', 'user', 'other'))
);
CREATE UNIQUE INDEX "deal_contacts_deal_id_contact_id_key" ON "crm"."deal_contacts" ("tenant_id", "deal_id", "contact_id") WHERE "deleted_at" IS NULL;
CREATE UNIQUE INDEX "deal_contacts_deal_id_if_is_primary_key" ON "crm"."deal_contacts" ("tenant_id", "deal_id") WHERE "deleted_at" IS NULL AND "is_primary";
CREATE INDEX "deal_contacts_contact_id_role_idx" ON "crm"."deal_contacts" ("tenant_id", "contact_id", "role");
CREATE INDEX "deal_contacts_created_at_id_idx" ON "crm"."deal_contacts" ("tenant_id", "created_at", "id");
CREATE INDEX "deal_contacts_updated_at_id_idx" ON "crm"."deal_contacts" ("tenant_id", "updated_at", "id");
CREATE INDEX "deal_contacts_deal_id_idx" ON "crm"."deal_contacts" ("tenant_id", "deal_id");
CREATE INDEX "deal_contacts_role_idx" ON "crm"."deal_contacts" ("tenant_id", "role");
ALTER TABLE "crm"."deal_contacts" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."deal_contacts"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."deal_contacts" TO "crm_app";

CREATE TABLE "crm"."deal_competitors" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "deal_id" uuid NOT NULL,
    "name" varchar(255) COLLATE "C" NOT NULL,
    "account_id" uuid,
    "status" varchar(50) COLLATE "C" NOT NULL,
    "strengths" varchar(32768) COLLATE "C",
    "weaknesses" varchar(32768) COLLATE "C",
    "is_main" boolean NOT NULL,
    "won_against" boolean,
    "name_folded" text COLLATE "C" NOT NULL,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("name") <> length("name") THEN "crm".search_text("name") ELSE translate(coalesce("name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
    ) STORED,
    CONSTRAINT "deal_competitors_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "deal_competitors_version_check" CHECK ("version" >= 1),
    CONSTRAINT "deal_competitors_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "deal_competitors_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "deal_competitors_status_check" CHECK ("status" IN ('competing', 'withdrawn', 'eliminated', 'chosen'))
);
CREATE UNIQUE INDEX "deal_competitors_deal_id_name_folded_key" ON "crm"."deal_competitors" ("tenant_id", "deal_id", "name_folded") WHERE "deleted_at" IS NULL;
CREATE UNIQUE INDEX "deal_competitors_deal_id_if_is_main_key" ON "crm"."deal_competitors" ("tenant_id", "deal_id") WHERE "deleted_at" IS NULL AND "is_main";
CREATE INDEX "deal_competitors_account_id_idx" ON "crm"."deal_competitors" ("tenant_id", "account_id");
CREATE INDEX "deal_competitors_name_folded_idx" ON "crm"."deal_competitors" ("tenant_id", "name_folded");
CREATE INDEX "deal_competitors_created_at_id_idx" ON "crm"."deal_competitors" ("tenant_id", "created_at", "id");
CREATE INDEX "deal_competitors_updated_at_id_idx" ON "crm"."deal_competitors" ("tenant_id", "updated_at", "id");
CREATE INDEX "deal_competitors_deal_id_idx" ON "crm"."deal_competitors" ("tenant_id", "deal_id");
CREATE INDEX "deal_competitors_status_idx" ON "crm"."deal_competitors" ("tenant_id", "status");
CREATE INDEX "deal_competitors_won_against_idx" ON "crm"."deal_competitors" ("tenant_id", "won_against");
CREATE INDEX "deal_competitors_search_vector_idx" ON "crm"."deal_competitors" USING gin ("search_vector");
ALTER TABLE "crm"."deal_competitors" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."deal_competitors"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."deal_competitors" TO "crm_app";
CREATE POLICY "search" ON "crm"."deal_competitors" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "search_vector") ON "crm"."deal_competitors" TO "crm_search";

CREATE TABLE "crm"."close_reasons" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "outcome" varchar(50) COLLATE "C" NOT NULL,
    "label" varchar(100) COLLATE "C" NOT NULL,
    "description" varchar(32768) COLLATE "C",
    "is_active" boolean NOT NULL,
    "position" bigint NOT NULL,
    "outcome_folded" text COLLATE "C" NOT NULL,
    "label_folded" text COLLATE "C" NOT NULL,
    CONSTRAINT "close_reasons_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "close_reasons_version_check" CHECK ("version" >= 1),
    CONSTRAINT "close_reasons_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "close_reasons_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "close_reasons_outcome_check" CHECK ("outcome" IN ('won', 'lost')),
    CONSTRAINT "close_reasons_position_check" CHECK ("position" BETWEEN 0 AND 2147483647)
);
CREATE UNIQUE INDEX "close_reasons_outcome_folded_label_folded_key" ON "crm"."close_reasons" ("tenant_id", "outcome_folded", "label_folded") WHERE "deleted_at" IS NULL;
CREATE INDEX "close_reasons_outcome_folded_position_id_idx" ON "crm"."close_reasons" ("tenant_id", "outcome_folded", "position", "id");
CREATE INDEX "close_reasons_created_at_id_idx" ON "crm"."close_reasons" ("tenant_id", "created_at", "id");
CREATE INDEX "close_reasons_updated_at_id_idx" ON "crm"."close_reasons" ("tenant_id", "updated_at", "id");
ALTER TABLE "crm"."close_reasons" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."close_reasons"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."close_reasons" TO "crm_app";

CREATE TABLE "crm"."pipeline_automation_rules" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "rule_name" varchar(100) COLLATE "C" NOT NULL,
    "rule_type" varchar(50) COLLATE "C" NOT NULL,
    "trigger_event" varchar(50) COLLATE "C" NOT NULL,
    "conditions" jsonb NOT NULL,
    "condition_expression" varchar(4000) COLLATE "C",
    "actions" jsonb NOT NULL,
    "description" varchar(32768) COLLATE "C",
    "pipeline_id" uuid,
    "stage_id" uuid,
    "conditions_before" jsonb,
    "watched_fields" text[] COLLATE "C" NOT NULL,
    "time_basis" varchar(50) COLLATE "C",
    "after_days" bigint,
    "on_failure" varchar(50) COLLATE "C" NOT NULL,
    "execution_order" bigint NOT NULL,
    "is_active" boolean NOT NULL,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("rule_name") <> length("rule_name") THEN "crm".search_text("rule_name") ELSE translate(coalesce("rule_name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
    ) STORED,
    CONSTRAINT "pipeline_automation_rules_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "pipeline_automation_rules_version_check" CHECK ("version" >= 1),
    CONSTRAINT "pipeline_automation_rules_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "pipeline_automation_rules_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "pipeline_automation_rules_rule_type_check" CHECK ("rule_type" IN ('stage_entry', 'stage_exit', 'field_change', 'time_based', 'probability_change')),
    CONSTRAINT "pipeline_automation_rules_trigger_event_check" CHECK ("trigger_event" IN ('deal_created', 'stage_changed', 'field_updated', 'time_elapsed', 'probability_changed')),
    CONSTRAINT "pipeline_automation_rules_time_basis_check" CHECK ("time_basis" IN ('in_stage', 'without_activity', 'before_close', 'after_close', 'after_creation')),
    CONSTRAINT "pipeline_automation_rules_after_days_check" CHECK ("after_days" BETWEEN 0 AND 3660),
    CONSTRAINT "pipeline_automation_rules_on_failure_check" CHECK ("on_failure" IN ('skip', 'refuse')),
    CONSTRAINT "pipeline_automation_rules_execution_order_check" CHECK ("execution_order" BETWEEN 0 AND 2147483647)
);
CREATE UNIQUE INDEX "pipeline_automation_rules_rule_name_key" ON "crm"."pipeline_automation_rules" ("tenant_id", "rule_name") WHERE "deleted_at" IS NULL;
CREATE INDEX "pipeline_automation_rules_created_at_id_idx" ON "crm"."pipeline_automation_rules" ("tenant_id", "created_at", "id");
CREATE INDEX "pipeline_automation_rules_updated_at_id_idx" ON "crm"."pipeline_automation_rules" ("tenant_id", "updated_at", "id");
CREATE INDEX "pipeline_automation_rules_pipeline_id_idx" ON "crm"."pipeline_automation_rules" ("tenant_id", "pipeline_id");
CREATE INDEX "pipeline_automation_rules_stage_id_idx" ON "crm"."pipeline_automation_rules" ("tenant_id", "stage_id");
CREATE INDEX "pipeline_automation_rules_watched_fields_idx" ON "crm"."pipeline_automation_rules" USING gin ("watched_fields");
CREATE INDEX "pipeline_automation_rules_search_vector_idx" ON "crm"."pipeline_automation_rules" USING gin ("search_vector");
ALTER TABLE "crm"."pipeline_automation_rules" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."pipeline_automation_rules"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."pipeline_automation_rules" TO "crm_app";
CREATE POLICY "search" ON "crm"."pipeline_automation_rules" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "watched_fields", "search_vector") ON "crm"."pipeline_automation_rules" TO "crm_search";

CREATE TABLE "crm"."automation_executions" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "rule_id" uuid NOT NULL,
    "deal_id" uuid NOT NULL,
    "event" varchar(50) COLLATE "C" NOT NULL,
    "outcome" varchar(50) COLLATE "C" NOT NULL,
    "commit_id" uuid NOT NULL,
    "step" bigint NOT NULL,
    "actions_done" bigint NOT NULL,
    "failed_action" bigint,
    "error_code" varchar(100) COLLATE "C",
    "error" varchar(32768) COLLATE "C",
    "occasion" varchar(60) COLLATE "C",
    CONSTRAINT "automation_executions_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "automation_executions_version_check" CHECK ("version" >= 1),
    CONSTRAINT "automation_executions_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "automation_executions_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "automation_executions_event_check" CHECK ("event" IN ('deal_created', 'stage_changed', 'field_updated', 'time_elapsed', 'probability_changed')),
    CONSTRAINT "automation_executions_outcome_check" CHECK ("outcome" IN ('executed', 'failed', 'stopped')),
    CONSTRAINT "automation_executions_step_check" CHECK ("step" BETWEEN 0 AND 2147483647),
    CONSTRAINT "automation_executions_actions_done_check" CHECK ("actions_done" BETWEEN 0 AND 2147483647),
    CONSTRAINT "automation_executions_failed_action_check" CHECK ("failed_action" BETWEEN 0 AND 2147483647)
);
CREATE UNIQUE INDEX "automation_executions_rule_id_deal_id_occasion_key" ON "crm"."automation_executions" ("tenant_id", "rule_id", "deal_id", "occasion");
CREATE INDEX "automation_executions_created_at_id_idx" ON "crm"."automation_executions" ("tenant_id", "created_at", "id");
CREATE INDEX "automation_executions_rule_id_idx" ON "crm"."automation_executions" ("tenant_id", "rule_id");
CREATE INDEX "automation_executions_deal_id_idx" ON "crm"."automation_executions" ("tenant_id", "deal_id");
ALTER TABLE "crm"."automation_executions" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."automation_executions"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."automation_executions" TO "crm_app";

CREATE TABLE "crm"."leads" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "first_name" varchar(100) COLLATE "C",
    "last_name" varchar(100) COLLATE "C",
    "company" varchar(255) COLLATE "C",
    "email" varchar(254) COLLATE "C",
    "phone" varchar(50) COLLATE "C",
    "phone_e164" varchar(16) COLLATE "C",
    "job_title" varchar(150) COLLATE "C",
    "website" varchar(255) COLLATE "C",
    "industry" varchar(100) COLLATE "C",
    "annual_revenue" numeric(19,2),
    "employee_count" bigint,
    "mailing_street" varchar(500) COLLATE "C",
    "mailing_city" varchar(100) COLLATE "C",
    "mailing_region" varchar(100) COLLATE "C",
    "mailing_postal_code" varchar(20) COLLATE "C",
    "mailing_country" varchar(2) COLLATE "C",
    "lead_source" varchar(100) COLLATE "C",
    "lead_source_detail" varchar(255) COLLATE "C",
    "campaign_id" uuid,
    "utm_source" varchar(100) COLLATE "C",
    "utm_medium" varchar(100) COLLATE "C",
    "utm_campaign" varchar(100) COLLATE "C",
    "utm_term" varchar(100) COLLATE "C",
    "utm_content" varchar(100) COLLATE "C",
    "referrer_url" varchar(2048) COLLATE "C",
    "landing_page_url" varchar(2048) COLLATE "C",
    "status" varchar(50) COLLATE "C" NOT NULL,
    "status_reason" varchar(255) COLLATE "C",
    "qualification_status" varchar(50) COLLATE "C" NOT NULL,
    "interest_level" varchar(50) COLLATE "C" NOT NULL,
    "rating" varchar(50) COLLATE "C",
    "grade" varchar(10) COLLATE "C",
    "lead_score" bigint NOT NULL,
    "score_total" bigint NOT NULL,
    "score_adjustment" bigint NOT NULL,
    "budget_range" varchar(50) COLLATE "C",
    "timeline" varchar(50) COLLATE "C",
    "decision_maker" boolean NOT NULL,
    "pain_points" text[] COLLATE "C" NOT NULL,
    "interests" text[] COLLATE "C" NOT NULL,
    "description" varchar(32768) COLLATE "C",
    "owner_id" uuid,
    "assigned_at" timestamptz,
    "qualified_at" timestamptz,
    "converted_at" timestamptz,
    "converted_contact_id" uuid,
    "converted_account_id" uuid,
    "converted_deal_id" uuid,
    "last_activity_at" timestamptz,
    "next_activity_at" timestamptz,
    "custom_fields" jsonb NOT NULL,
    "tags" text[] COLLATE "C" NOT NULL,
    "email_folded" text COLLATE "C",
    "sealed" bytea,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("first_name") <> length("first_name") THEN "crm".search_text("first_name") ELSE translate(coalesce("first_name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("last_name") <> length("last_name") THEN "crm".search_text("last_name") ELSE translate(coalesce("last_name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'B')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("company") <> length("company") THEN "crm".search_text("company") ELSE translate(coalesce("company", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'C')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("email") <> length("email") THEN "crm".search_text("email") ELSE translate(coalesce("email", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'D')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("description") <> length("description") THEN "crm".search_text("description") ELSE translate(coalesce("description", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'D')
    ) STORED,
    CONSTRAINT "leads_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "leads_version_check" CHECK ("version" >= 1),
    CONSTRAINT "leads_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "leads_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "leads_annual_revenue_check" CHECK ("annual_revenue" >= 0),
    CONSTRAINT "leads_employee_count_check" CHECK ("employee_count" BETWEEN 0 AND 2147483647),
    CONSTRAINT "leads_status_check" CHECK ("status" IN ('new', 'contacted', 'qualified', 'unqualified', 'converted', 'lost', 'archived')),
    CONSTRAINT "leads_qualification_status_check" CHECK ("qualification_status" IN ('unqualified', 'marketing_qualified', 'sales_qualified', 'sales_accepted')),
    CONSTRAINT "leads_interest_level_check" CHECK ("interest_level" IN ('unknown', 'low', 'medium', 'high', 'very_high')),
    CONSTRAINT "leads_rating_check" CHECK ("rating" IN ('hot', 'warm', 'cold')),
    CONSTRAINT "leads_lead_score_check" CHECK ("lead_score" BETWEEN 0 AND 100),
    CONSTRAINT "leads_score_total_check" CHECK ("score_total" BETWEEN -2147483648 AND 2147483647),
    CONSTRAINT "leads_score_adjustment_check" CHECK ("score_adjustment" BETWEEN -2147483648 AND 2147483647)
);
CREATE INDEX "leads_owner_id_status_idx" ON "crm"."leads" ("tenant_id", "owner_id", "status");
CREATE INDEX "leads_status_lead_score_id_idx" ON "crm"."leads" ("tenant_id", "status", "lead_score", "id");
CREATE INDEX "leads_status_last_activity_at_created_at_id_idx" ON "crm"."leads" ("tenant_id", "status", "last_activity_at", "created_at", "id");
CREATE INDEX "leads_created_at_id_idx" ON "crm"."leads" ("tenant_id", "created_at", "id");
CREATE INDEX "leads_updated_at_id_idx" ON "crm"."leads" ("tenant_id", "updated_at", "id");
CREATE INDEX "leads_last_name_id_idx" ON "crm"."leads" ("tenant_id", "last_name", "id");
CREATE INDEX "leads_company_id_idx" ON "crm"."leads" ("tenant_id", "company", "id");
CREATE INDEX "leads_email_folded_idx" ON "crm"."leads" ("tenant_id", "email_folded");
CREATE INDEX "leads_industry_id_idx" ON "crm"."leads" ("tenant_id", "industry", "id");
CREATE INDEX "leads_lead_source_id_idx" ON "crm"."leads" ("tenant_id", "lead_source", "id");
CREATE INDEX "leads_campaign_id_idx" ON "crm"."leads" ("tenant_id", "campaign_id");
CREATE INDEX "leads_qualification_status_idx" ON "crm"."leads" ("tenant_id", "qualification_status");
CREATE INDEX "leads_lead_score_id_idx" ON "crm"."leads" ("tenant_id", "lead_score", "id");
CREATE INDEX "leads_converted_contact_id_idx" ON "crm"."leads" ("tenant_id", "converted_contact_id");
CREATE INDEX "leads_converted_account_id_idx" ON "crm"."leads" ("tenant_id", "converted_account_id");
CREATE INDEX "leads_converted_deal_id_idx" ON "crm"."leads" ("tenant_id", "converted_deal_id");
CREATE INDEX "leads_last_activity_at_id_idx" ON "crm"."leads" ("tenant_id", "last_activity_at", "id");
CREATE INDEX "leads_pain_points_idx" ON "crm"."leads" USING gin ("pain_points");
CREATE INDEX "leads_interests_idx" ON "crm"."leads" USING gin ("interests");
CREATE INDEX "leads_tags_idx" ON "crm"."leads" USING gin ("tags");
CREATE INDEX "leads_search_vector_idx" ON "crm"."leads" USING gin ("search_vector");
CREATE INDEX "leads_lead_score_id_if_unconverted_idx" ON "crm"."leads" ("tenant_id", "lead_score", "id") WHERE "converted_at" IS NULL AND "deleted_at" IS NULL;
CREATE INDEX "leads_phone_e164_if_set_idx" ON "crm"."leads" ("tenant_id", "phone_e164") WHERE "phone_e164" IS NOT NULL;
ALTER TABLE "crm"."leads" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."leads"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."leads" TO "crm_app";
CREATE POLICY "search" ON "crm"."leads" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "pain_points", "interests", "tags", "search_vector") ON "crm"."leads" TO "crm_search";

CREATE TABLE "crm"."lead_conversions" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "lead_id" uuid NOT NULL,
    "commit_id" uuid NOT NULL,
    "object" varchar(100) COLLATE "C" NOT NULL,
    "record_id" uuid NOT NULL,
    "deed" varchar(50) COLLATE "C" NOT NULL,
    "before" jsonb NOT NULL,
    "after" jsonb NOT NULL,
    "sealed" bytea,
    CONSTRAINT "lead_conversions_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "lead_conversions_version_check" CHECK ("version" >= 1),
    CONSTRAINT "lead_conversions_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "lead_conversions_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "lead_conversions_deed_check" CHECK ("deed" IN ('converted', 'created', 'filled', 'carried'))
);
CREATE INDEX "lead_conversions_created_at_id_idx" ON "crm"."lead_conversions" ("tenant_id", "created_at", "id");
CREATE INDEX "lead_conversions_lead_id_idx" ON "crm"."lead_conversions" ("tenant_id", "lead_id");
CREATE INDEX "lead_conversions_record_id_idx" ON "crm"."lead_conversions" ("tenant_id", "record_id");
ALTER TABLE "crm"."lead_conversions" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."lead_conversions"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."lead_conversions" TO "crm_app";

CREATE TABLE "crm"."lead_conversion_mappings" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "target" varchar(50) COLLATE "C" NOT NULL,
    "target_field" varchar(200) COLLATE "C" NOT NULL,
    "source_field" varchar(200) COLLATE "C",
    CONSTRAINT "lead_conversion_mappings_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "lead_conversion_mappings_version_check" CHECK ("version" >= 1),
    CONSTRAINT "lead_conversion_mappings_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "lead_conversion_mappings_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "lead_conversion_mappings_target_check" CHECK ("target" IN ('contact', 'account', 'deal'))
);
CREATE UNIQUE INDEX "lead_conversion_mappings_target_target_field_key" ON "crm"."lead_conversion_mappings" ("tenant_id", "target", "target_field") WHERE "deleted_at" IS NULL;
CREATE INDEX "lead_conversion_mappings_created_at_id_idx" ON "crm"."lead_conversion_mappings" ("tenant_id", "created_at", "id");
CREATE INDEX "lead_conversion_mappings_updated_at_id_idx" ON "crm"."lead_conversion_mappings" ("tenant_id", "updated_at", "id");
ALTER TABLE "crm"."lead_conversion_mappings" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."lead_conversion_mappings"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."lead_conversion_mappings" TO "crm_app";

CREATE TABLE "crm"."lead_assignment_rules" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(100) COLLATE "C" NOT NULL,
    "description" varchar(32768) COLLATE "C",
    "rank" bigint NOT NULL,
    "is_active" boolean NOT NULL,
    "criteria" jsonb,
    "method" varchar(50) COLLATE "C" NOT NULL,
    "user_id" uuid,
    "team_id" uuid,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("name") <> length("name") THEN "crm".search_text("name") ELSE translate(coalesce("name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
    ) STORED,
    CONSTRAINT "lead_assignment_rules_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "lead_assignment_rules_version_check" CHECK ("version" >= 1),
    CONSTRAINT "lead_assignment_rules_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "lead_assignment_rules_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "lead_assignment_rules_rank_check" CHECK ("rank" BETWEEN -2147483648 AND 2147483647),
    CONSTRAINT "lead_assignment_rules_method_check" CHECK ("method" IN ('user', 'round_robin', 'territory'))
);
CREATE UNIQUE INDEX "lead_assignment_rules_name_key" ON "crm"."lead_assignment_rules" ("tenant_id", "name") WHERE "deleted_at" IS NULL;
CREATE INDEX "lead_assignment_rules_created_at_id_idx" ON "crm"."lead_assignment_rules" ("tenant_id", "created_at", "id");
CREATE INDEX "lead_assignment_rules_updated_at_id_idx" ON "crm"."lead_assignment_rules" ("tenant_id", "updated_at", "id");
CREATE INDEX "lead_assignment_rules_user_id_idx" ON "crm"."lead_assignment_rules" ("tenant_id", "user_id");
CREATE INDEX "lead_assignment_rules_team_id_idx" ON "crm"."lead_assignment_rules" ("tenant_id", "team_id");
CREATE INDEX "lead_assignment_rules_search_vector_idx" ON "crm"."lead_assignment_rules" USING gin ("search_vector");
ALTER TABLE "crm"."lead_assignment_rules" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."lead_assignment_rules"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."lead_assignment_rules" TO "crm_app";
CREATE POLICY "search" ON "crm"."lead_assignment_rules" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "search_vector") ON "crm"."lead_assignment_rules" TO "crm_search";

CREATE TABLE "crm"."lead_assignees" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "rule_id" uuid NOT NULL,
    "user_id" uuid NOT NULL,
    CONSTRAINT "lead_assignees_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "lead_assignees_version_check" CHECK ("version" >= 1),
    CONSTRAINT "lead_assignees_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "lead_assignees_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous'))
);
CREATE UNIQUE INDEX "lead_assignees_rule_id_user_id_key" ON "crm"."lead_assignees" ("tenant_id", "rule_id", "user_id") WHERE "deleted_at" IS NULL;
CREATE INDEX "lead_assignees_user_id_idx" ON "crm"."lead_assignees" ("tenant_id", "user_id");
CREATE INDEX "lead_assignees_created_at_id_idx" ON "crm"."lead_assignees" ("tenant_id", "created_at", "id");
CREATE INDEX "lead_assignees_updated_at_id_idx" ON "crm"."lead_assignees" ("tenant_id", "updated_at", "id");
CREATE INDEX "lead_assignees_rule_id_idx" ON "crm"."lead_assignees" ("tenant_id", "rule_id");
ALTER TABLE "crm"."lead_assignees" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."lead_assignees"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."lead_assignees" TO "crm_app";

CREATE TABLE "crm"."lead_assignment_states" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "object" varchar(50) COLLATE "C" NOT NULL,
    "assigned" bigint NOT NULL,
    "last_user" uuid,
    "last_at" timestamptz,
    CONSTRAINT "lead_assignment_states_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "lead_assignment_states_version_check" CHECK ("version" >= 1),
    CONSTRAINT "lead_assignment_states_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "lead_assignment_states_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "lead_assignment_states_assigned_check" CHECK ("assigned" >= 0)
);
ALTER TABLE "crm"."lead_assignment_states" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."lead_assignment_states"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."lead_assignment_states" TO "crm_app";

CREATE TABLE "crm"."campaign_members" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "campaign_id" uuid NOT NULL,
    "lead_id" uuid,
    "contact_id" uuid,
    "status" varchar(50) COLLATE "C" NOT NULL,
    "responded_at" timestamptz,
    "is_first_touch" boolean NOT NULL,
    CONSTRAINT "campaign_members_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "campaign_members_version_check" CHECK ("version" >= 1),
    CONSTRAINT "campaign_members_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "campaign_members_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "campaign_members_status_check" CHECK ("status" IN ('sent', 'responded', 'converted'))
);
CREATE UNIQUE INDEX "campaign_members_campaign_id_lead_id_key" ON "crm"."campaign_members" ("tenant_id", "campaign_id", "lead_id") WHERE "deleted_at" IS NULL;
CREATE UNIQUE INDEX "campaign_members_campaign_id_contact_id_key" ON "crm"."campaign_members" ("tenant_id", "campaign_id", "contact_id") WHERE "deleted_at" IS NULL;
CREATE INDEX "campaign_members_campaign_id_status_idx" ON "crm"."campaign_members" ("tenant_id", "campaign_id", "status");
CREATE INDEX "campaign_members_created_at_id_idx" ON "crm"."campaign_members" ("tenant_id", "created_at", "id");
CREATE INDEX "campaign_members_updated_at_id_idx" ON "crm"."campaign_members" ("tenant_id", "updated_at", "id");
CREATE INDEX "campaign_members_lead_id_idx" ON "crm"."campaign_members" ("tenant_id", "lead_id");
CREATE INDEX "campaign_members_contact_id_idx" ON "crm"."campaign_members" ("tenant_id", "contact_id");
ALTER TABLE "crm"."campaign_members" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."campaign_members"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."campaign_members" TO "crm_app";

CREATE TABLE "crm"."lead_scoring_rule_sets" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(100) COLLATE "C" NOT NULL,
    "description" varchar(32768) COLLATE "C",
    "status" varchar(50) COLLATE "C" NOT NULL,
    "is_published" boolean NOT NULL,
    "revision" bigint,
    "published_at" timestamptz,
    "retired_at" timestamptz,
    "groups" jsonb NOT NULL,
    "grades" jsonb NOT NULL,
    "decay" jsonb,
    "minimum" bigint,
    "maximum" bigint,
    "name_folded" text COLLATE "C" NOT NULL,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("name") <> length("name") THEN "crm".search_text("name") ELSE translate(coalesce("name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
    ) STORED,
    CONSTRAINT "lead_scoring_rule_sets_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "lead_scoring_rule_sets_version_check" CHECK ("version" >= 1),
    CONSTRAINT "lead_scoring_rule_sets_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "lead_scoring_rule_sets_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "lead_scoring_rule_sets_status_check" CHECK ("status" IN ('draft', 'published', 'retired')),
    CONSTRAINT "lead_scoring_rule_sets_revision_check" CHECK ("revision" BETWEEN 1 AND 2147483647),
    CONSTRAINT "lead_scoring_rule_sets_minimum_check" CHECK ("minimum" BETWEEN -2147483648 AND 2147483647),
    CONSTRAINT "lead_scoring_rule_sets_maximum_check" CHECK ("maximum" BETWEEN -2147483648 AND 2147483647)
);
CREATE UNIQUE INDEX "lead_scoring_rule_sets_name_folded_key" ON "crm"."lead_scoring_rule_sets" ("tenant_id", "name_folded") WHERE "deleted_at" IS NULL;
CREATE UNIQUE INDEX "lead_scoring_rule_sets_is_published_if_is_76f3f9bc41" ON "crm"."lead_scoring_rule_sets" ("tenant_id", "is_published") WHERE "deleted_at" IS NULL AND "is_published";
CREATE INDEX "lead_scoring_rule_sets_created_at_id_idx" ON "crm"."lead_scoring_rule_sets" ("tenant_id", "created_at", "id");
CREATE INDEX "lead_scoring_rule_sets_updated_at_id_idx" ON "crm"."lead_scoring_rule_sets" ("tenant_id", "updated_at", "id");
CREATE INDEX "lead_scoring_rule_sets_search_vector_idx" ON "crm"."lead_scoring_rule_sets" USING gin ("search_vector");
ALTER TABLE "crm"."lead_scoring_rule_sets" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."lead_scoring_rule_sets"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."lead_scoring_rule_sets" TO "crm_app";
CREATE POLICY "search" ON "crm"."lead_scoring_rule_sets" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "search_vector") ON "crm"."lead_scoring_rule_sets" TO "crm_search";

CREATE TABLE "crm"."lead_scoring_rules" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "rule_set_id" uuid NOT NULL,
    "name" varchar(100) COLLATE "C" NOT NULL,
    "rule_type" varchar(50) COLLATE "C" NOT NULL,
    "condition_field" varchar(200) COLLATE "C" NOT NULL,
    "condition_operator" varchar(50) COLLATE "C" NOT NULL,
    "score_change" bigint NOT NULL,
    "condition_value" jsonb,
    "activities" jsonb,
    "group_name" varchar(50) COLLATE "C",
    "priority" bigint NOT NULL,
    "is_active" boolean NOT NULL,
    "description" varchar(32768) COLLATE "C",
    "sealed" bytea,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("name") <> length("name") THEN "crm".search_text("name") ELSE translate(coalesce("name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
    ) STORED,
    CONSTRAINT "lead_scoring_rules_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "lead_scoring_rules_version_check" CHECK ("version" >= 1),
    CONSTRAINT "lead_scoring_rules_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "lead_scoring_rules_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "lead_scoring_rules_rule_type_check" CHECK ("rule_type" IN ('demographic', 'behavioral', 'engagement', 'firmographic')),
    CONSTRAINT "lead_scoring_rules_condition_operator_check" CHECK ("condition_operator" IN ('equals', 'not_equals', 'contains', 'not_contains', 'greater_than', 'less_than', 'in', 'not_in', 'between', 'exists', 'not_exists', 'older_than', 'newer_than')),
    CONSTRAINT "lead_scoring_rules_score_change_check" CHECK ("score_change" BETWEEN -100 AND 100),
    CONSTRAINT "lead_scoring_rules_priority_check" CHECK ("priority" BETWEEN -2147483648 AND 2147483647)
);
CREATE UNIQUE INDEX "lead_scoring_rules_rule_set_id_name_key" ON "crm"."lead_scoring_rules" ("tenant_id", "rule_set_id", "name") WHERE "deleted_at" IS NULL;
CREATE INDEX "lead_scoring_rules_created_at_id_idx" ON "crm"."lead_scoring_rules" ("tenant_id", "created_at", "id");
CREATE INDEX "lead_scoring_rules_updated_at_id_idx" ON "crm"."lead_scoring_rules" ("tenant_id", "updated_at", "id");
CREATE INDEX "lead_scoring_rules_rule_set_id_idx" ON "crm"."lead_scoring_rules" ("tenant_id", "rule_set_id");
CREATE INDEX "lead_scoring_rules_search_vector_idx" ON "crm"."lead_scoring_rules" USING gin ("search_vector");
ALTER TABLE "crm"."lead_scoring_rules" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."lead_scoring_rules"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."lead_scoring_rules" TO "crm_app";
CREATE POLICY "search" ON "crm"."lead_scoring_rules" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "search_vector") ON "crm"."lead_scoring_rules" TO "crm_search";

CREATE TABLE "crm"."lead_scoring_history" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "lead_id" uuid NOT NULL,
    "cause" varchar(50) COLLATE "C" NOT NULL,
    "score_change" bigint NOT NULL,
    "previous_score" bigint NOT NULL,
    "new_score" bigint NOT NULL,
    "rule_set_id" uuid,
    "rule_set_revision" bigint,
    "points_given" jsonb,
    "reason" varchar(32768) COLLATE "C",
    "sealed" bytea,
    CONSTRAINT "lead_scoring_history_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "lead_scoring_history_version_check" CHECK ("version" >= 1),
    CONSTRAINT "lead_scoring_history_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "lead_scoring_history_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "lead_scoring_history_cause_check" CHECK ("cause" IN ('rules', 'adjustment')),
    CONSTRAINT "lead_scoring_history_score_change_check" CHECK ("score_change" BETWEEN -2147483648 AND 2147483647),
    CONSTRAINT "lead_scoring_history_previous_score_check" CHECK ("previous_score" BETWEEN 0 AND 100),
    CONSTRAINT "lead_scoring_history_new_score_check" CHECK ("new_score" BETWEEN 0 AND 100),
    CONSTRAINT "lead_scoring_history_rule_set_revision_check" CHECK ("rule_set_revision" BETWEEN -2147483648 AND 2147483647)
);
CREATE INDEX "lead_scoring_history_created_at_id_idx" ON "crm"."lead_scoring_history" ("tenant_id", "created_at", "id");
CREATE INDEX "lead_scoring_history_lead_id_idx" ON "crm"."lead_scoring_history" ("tenant_id", "lead_id");
ALTER TABLE "crm"."lead_scoring_history" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."lead_scoring_history"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."lead_scoring_history" TO "crm_app";

CREATE TABLE "crm"."consents" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "contact_id" uuid,
    "lead_id" uuid,
    "consent_type" varchar(100) COLLATE "C" NOT NULL,
    "status" varchar(50) COLLATE "C" NOT NULL,
    "is_active" boolean NOT NULL,
    "lawful_basis" varchar(50) COLLATE "C" NOT NULL,
    "granted_at" timestamptz NOT NULL,
    "expires_at" timestamptz,
    "withdrawn_at" timestamptz,
    "withdrawal_method" varchar(100) COLLATE "C",
    "source" varchar(255) COLLATE "C",
    "text_version" varchar(100) COLLATE "C",
    "ip_address" varchar(45) COLLATE "C",
    "user_agent" varchar(1000) COLLATE "C",
    "details" jsonb NOT NULL,
    "sealed" bytea,
    CONSTRAINT "consents_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "consents_version_check" CHECK ("version" >= 1),
    CONSTRAINT "consents_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "consents_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "consents_status_check" CHECK ("status" IN ('granted', 'withdrawn')),
    CONSTRAINT "consents_lawful_basis_check" CHECK ("lawful_basis" IN ('consent', 'contract', 'legal_obligation', 'vital_interests', 'public_task', 'legitimate_interests'))
);
CREATE UNIQUE INDEX "consents_contact_id_consent_type_if_is_active_key" ON "crm"."consents" ("tenant_id", "contact_id", "consent_type") WHERE "deleted_at" IS NULL AND "is_active";
CREATE UNIQUE INDEX "consents_lead_id_consent_type_if_is_active_key" ON "crm"."consents" ("tenant_id", "lead_id", "consent_type") WHERE "deleted_at" IS NULL AND "is_active";
CREATE INDEX "consents_contact_id_consent_type_idx" ON "crm"."consents" ("tenant_id", "contact_id", "consent_type");
CREATE INDEX "consents_lead_id_consent_type_idx" ON "crm"."consents" ("tenant_id", "lead_id", "consent_type");
CREATE INDEX "consents_created_at_id_idx" ON "crm"."consents" ("tenant_id", "created_at", "id");
CREATE INDEX "consents_updated_at_id_idx" ON "crm"."consents" ("tenant_id", "updated_at", "id");
ALTER TABLE "crm"."consents" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."consents"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."consents" TO "crm_app";

CREATE TABLE "crm"."deletion_logs" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "object" varchar(100) COLLATE "C" NOT NULL,
    "record_id" uuid NOT NULL,
    "method" varchar(50) COLLATE "C" NOT NULL,
    "reason" varchar(50) COLLATE "C" NOT NULL,
    "legal_reference" varchar(255) COLLATE "C",
    "record_count" bigint NOT NULL,
    "value_count" bigint NOT NULL,
    CONSTRAINT "deletion_logs_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "deletion_logs_version_check" CHECK ("version" >= 1),
    CONSTRAINT "deletion_logs_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "deletion_logs_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "deletion_logs_method_check" CHECK ("method" IN ('soft_delete', 'hard_delete', 'anonymize', 'archive')),
    CONSTRAINT "deletion_logs_reason_check" CHECK ("reason" IN ('erasure_request', 'consent_withdrawn', 'objection', 'retention_ended', 'unlawful_processing', 'legal_obligation')),
    CONSTRAINT "deletion_logs_record_count_check" CHECK ("record_count" >= 0),
    CONSTRAINT "deletion_logs_value_count_check" CHECK ("value_count" >= 0)
);
CREATE INDEX "deletion_logs_record_id_idx" ON "crm"."deletion_logs" ("tenant_id", "record_id");
CREATE INDEX "deletion_logs_object_created_at_id_idx" ON "crm"."deletion_logs" ("tenant_id", "object", "created_at", "id");
CREATE INDEX "deletion_logs_created_at_id_idx" ON "crm"."deletion_logs" ("tenant_id", "created_at", "id");
ALTER TABLE "crm"."deletion_logs" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."deletion_logs"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."deletion_logs" TO "crm_app";

CREATE TABLE "crm"."retention_policies" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(150) COLLATE "C" NOT NULL,
    "description" varchar(32768) COLLATE "C",
    "object" varchar(100) COLLATE "C" NOT NULL,
    "method" varchar(50) COLLATE "C" NOT NULL,
    "period" bigint NOT NULL,
    "period_unit" varchar(50) COLLATE "C" NOT NULL,
    "basis_field" varchar(150) COLLATE "C" NOT NULL,
    "basis_if_empty" varchar(150) COLLATE "C",
    "criteria" jsonb,
    "legal_reference" varchar(255) COLLATE "C",
    "is_active" boolean NOT NULL,
    "name_folded" text COLLATE "C" NOT NULL,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("name") <> length("name") THEN "crm".search_text("name") ELSE translate(coalesce("name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
    ) STORED,
    CONSTRAINT "retention_policies_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "retention_policies_version_check" CHECK ("version" >= 1),
    CONSTRAINT "retention_policies_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "retention_policies_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "retention_policies_method_check" CHECK ("method" IN ('soft_delete', 'hard_delete', 'anonymize', 'archive')),
    CONSTRAINT "retention_policies_period_check" CHECK ("period" BETWEEN 1 AND 36500),
    CONSTRAINT "retention_policies_period_unit_check" CHECK ("period_unit" IN ('days', 'months', 'years'))
);
CREATE UNIQUE INDEX "retention_policies_name_folded_key" ON "crm"."retention_policies" ("tenant_id", "name_folded") WHERE "deleted_at" IS NULL;
CREATE INDEX "retention_policies_object_id_idx" ON "crm"."retention_policies" ("tenant_id", "object", "id");
CREATE INDEX "retention_policies_created_at_id_idx" ON "crm"."retention_policies" ("tenant_id", "created_at", "id");
CREATE INDEX "retention_policies_updated_at_id_idx" ON "crm"."retention_policies" ("tenant_id", "updated_at", "id");
CREATE INDEX "retention_policies_search_vector_idx" ON "crm"."retention_policies" USING gin ("search_vector");
ALTER TABLE "crm"."retention_policies" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."retention_policies"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."retention_policies" TO "crm_app";
GRANT SELECT (tenant_id, object, method, deleted_at) ON "crm"."retention_policies" TO "crm_search";
CREATE POLICY "search" ON "crm"."retention_policies" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "search_vector") ON "crm"."retention_policies" TO "crm_search";

CREATE TABLE "crm"."legal_holds" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(150) COLLATE "C" NOT NULL,
    "reason" varchar(32768) COLLATE "C",
    "object" varchar(100) COLLATE "C" NOT NULL,
    "record_id" uuid,
    "criteria" jsonb,
    "is_active" boolean NOT NULL,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("name") <> length("name") THEN "crm".search_text("name") ELSE translate(coalesce("name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
    ) STORED,
    CONSTRAINT "legal_holds_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "legal_holds_version_check" CHECK ("version" >= 1),
    CONSTRAINT "legal_holds_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "legal_holds_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous'))
);
CREATE INDEX "legal_holds_object_record_id_idx" ON "crm"."legal_holds" ("tenant_id", "object", "record_id");
CREATE INDEX "legal_holds_created_at_id_idx" ON "crm"."legal_holds" ("tenant_id", "created_at", "id");
CREATE INDEX "legal_holds_updated_at_id_idx" ON "crm"."legal_holds" ("tenant_id", "updated_at", "id");
CREATE INDEX "legal_holds_search_vector_idx" ON "crm"."legal_holds" USING gin ("search_vector");
ALTER TABLE "crm"."legal_holds" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."legal_holds"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."legal_holds" TO "crm_app";
CREATE POLICY "search" ON "crm"."legal_holds" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "search_vector") ON "crm"."legal_holds" TO "crm_search";

CREATE TABLE "crm"."processing_activities" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(200) COLLATE "C" NOT NULL,
    "purpose" varchar(2000) COLLATE "C" NOT NULL,
    "lawful_basis" varchar(50) COLLATE "C" NOT NULL,
    "legitimate_interests" varchar(32768) COLLATE "C",
    "data_categories" text[] COLLATE "C" NOT NULL,
    "person_categories" text[] COLLATE "C" NOT NULL,
    "recipients" text[] COLLATE "C" NOT NULL,
    "is_transferred" boolean NOT NULL,
    "transfer_safeguards" varchar(32768) COLLATE "C",
    "retention" varchar(32768) COLLATE "C",
    "retention_policy_id" uuid,
    "measures" varchar(32768) COLLATE "C",
    "controller" varchar(200) COLLATE "C",
    "controller_email" varchar(254) COLLATE "C",
    "is_active" boolean NOT NULL,
    "name_folded" text COLLATE "C" NOT NULL,
    "controller_email_folded" text COLLATE "C",
    "sealed" bytea,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("name") <> length("name") THEN "crm".search_text("name") ELSE translate(coalesce("name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
    ) STORED,
    CONSTRAINT "processing_activities_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "processing_activities_version_check" CHECK ("version" >= 1),
    CONSTRAINT "processing_activities_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "processing_activities_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "processing_activities_lawful_basis_check" CHECK ("lawful_basis" IN ('consent', 'contract', 'legal_obligation', 'vital_interests', 'public_task', 'legitimate_interests'))
);
CREATE UNIQUE INDEX "processing_activities_name_folded_key" ON "crm"."processing_activities" ("tenant_id", "name_folded") WHERE "deleted_at" IS NULL;
CREATE INDEX "processing_activities_created_at_id_idx" ON "crm"."processing_activities" ("tenant_id", "created_at", "id");
CREATE INDEX "processing_activities_updated_at_id_idx" ON "crm"."processing_activities" ("tenant_id", "updated_at", "id");
CREATE INDEX "processing_activities_retention_policy_id_idx" ON "crm"."processing_activities" ("tenant_id", "retention_policy_id");
CREATE INDEX "processing_activities_data_categories_idx" ON "crm"."processing_activities" USING gin ("data_categories");
CREATE INDEX "processing_activities_person_categories_idx" ON "crm"."processing_activities" USING gin ("person_categories");
CREATE INDEX "processing_activities_recipients_idx" ON "crm"."processing_activities" USING gin ("recipients");
CREATE INDEX "processing_activities_search_vector_idx" ON "crm"."processing_activities" USING gin ("search_vector");
ALTER TABLE "crm"."processing_activities" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."processing_activities"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."processing_activities" TO "crm_app";
CREATE POLICY "search" ON "crm"."processing_activities" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "data_categories", "person_categories", "recipients", "search_vector") ON "crm"."processing_activities" TO "crm_search";

CREATE TABLE "crm"."activity_series" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "account_id" uuid,
    "contact_id" uuid,
    "deal_id" uuid,
    "lead_id" uuid,
    "related_object" varchar(100) COLLATE "C",
    "related_id" uuid,
    "activity_type" varchar(50) COLLATE "C" NOT NULL,
    "subject" varchar(255) COLLATE "C" NOT NULL,
    "owner_id" uuid NOT NULL,
    "assigned_to" uuid,
    "description" varchar(32768) COLLATE "C",
    "priority" varchar(50) COLLATE "C" NOT NULL,
    "is_all_day" boolean NOT NULL,
    "duration_minutes" bigint,
    "location" varchar(255) COLLATE "C",
    "meeting_url" varchar(500) COLLATE "C",
    "reminder_minutes" bigint,
    "tags" text[] COLLATE "C" NOT NULL,
    "recurrence" varchar(500) COLLATE "C" NOT NULL,
    "starts_at" varchar(19) COLLATE "C" NOT NULL,
    "time_zone" varchar(50) COLLATE "C" NOT NULL,
    "excluded" jsonb NOT NULL,
    "added" jsonb NOT NULL,
    "first_at" timestamptz,
    "last_at" timestamptz,
    "materialized_until" timestamptz,
    "is_exhausted" boolean NOT NULL,
    "external_id" varchar(300) COLLATE "C",
    "external_sequence" bigint,
    "sealed" bytea,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("subject") <> length("subject") THEN "crm".search_text("subject") ELSE translate(coalesce("subject", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("description") <> length("description") THEN "crm".search_text("description") ELSE translate(coalesce("description", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'B')
    ) STORED,
    CONSTRAINT "activity_series_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "activity_series_version_check" CHECK ("version" >= 1),
    CONSTRAINT "activity_series_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "activity_series_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "activity_series_activity_type_check" CHECK ("activity_type" IN ('call', 'email', 'meeting', 'task', 'note', 'demo', 'proposal', 'follow_up', 'other')),
    CONSTRAINT "activity_series_priority_check" CHECK ("priority" IN ('low', 'medium', 'high', 'urgent')),
    CONSTRAINT "activity_series_duration_minutes_check" CHECK ("duration_minutes" BETWEEN 1 AND 2147483647),
    CONSTRAINT "activity_series_reminder_minutes_check" CHECK ("reminder_minutes" BETWEEN 0 AND 2147483647),
    CONSTRAINT "activity_series_external_sequence_check" CHECK ("external_sequence" BETWEEN 0 AND 2147483647)
);
CREATE UNIQUE INDEX "activity_series_external_id_key" ON "crm"."activity_series" ("tenant_id", "external_id") WHERE "deleted_at" IS NULL;
CREATE INDEX "activity_series_is_exhausted_materialized_167d42d96e" ON "crm"."activity_series" ("tenant_id", "is_exhausted", "materialized_until", "id");
CREATE INDEX "activity_series_created_at_id_idx" ON "crm"."activity_series" ("tenant_id", "created_at", "id");
CREATE INDEX "activity_series_updated_at_id_idx" ON "crm"."activity_series" ("tenant_id", "updated_at", "id");
CREATE INDEX "activity_series_account_id_idx" ON "crm"."activity_series" ("tenant_id", "account_id");
CREATE INDEX "activity_series_contact_id_idx" ON "crm"."activity_series" ("tenant_id", "contact_id");
CREATE INDEX "activity_series_deal_id_idx" ON "crm"."activity_series" ("tenant_id", "deal_id");
CREATE INDEX "activity_series_lead_id_idx" ON "crm"."activity_series" ("tenant_id", "lead_id");
CREATE INDEX "activity_series_related_id_idx" ON "crm"."activity_series" ("tenant_id", "related_id");
CREATE INDEX "activity_series_activity_type_idx" ON "crm"."activity_series" ("tenant_id", "activity_type");
CREATE INDEX "activity_series_owner_id_idx" ON "crm"."activity_series" ("tenant_id", "owner_id");
CREATE INDEX "activity_series_assigned_to_idx" ON "crm"."activity_series" ("tenant_id", "assigned_to");
CREATE INDEX "activity_series_tags_idx" ON "crm"."activity_series" USING gin ("tags");
CREATE INDEX "activity_series_search_vector_idx" ON "crm"."activity_series" USING gin ("search_vector");
ALTER TABLE "crm"."activity_series" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."activity_series"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."activity_series" TO "crm_app";
CREATE POLICY "search" ON "crm"."activity_series" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "tags", "search_vector") ON "crm"."activity_series" TO "crm_search";

CREATE TABLE "crm"."activities" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "activity_type" varchar(50) COLLATE "C" NOT NULL,
    "subject" varchar(255) COLLATE "C" NOT NULL,
    "account_id" uuid,
    "contact_id" uuid,
    "deal_id" uuid,
    "lead_id" uuid,
    "related_object" varchar(100) COLLATE "C",
    "related_id" uuid,
    "owner_id" uuid NOT NULL,
    "assigned_to" uuid,
    "description" varchar(32768) COLLATE "C",
    "status" varchar(50) COLLATE "C" NOT NULL,
    "priority" varchar(50) COLLATE "C" NOT NULL,
    "scheduled_at" timestamptz,
    "started_at" timestamptz,
    "completed_at" timestamptz,
    "due_date" timestamptz,
    "is_all_day" boolean NOT NULL,
    "duration_minutes" bigint,
    "location" varchar(255) COLLATE "C",
    "meeting_url" varchar(500) COLLATE "C",
    "outcome" varchar(100) COLLATE "C",
    "outcome_notes" varchar(32768) COLLATE "C",
    "follow_up_required" boolean NOT NULL,
    "follow_up_date" timestamptz,
    "follow_up_of" uuid,
    "reminder_minutes" bigint,
    "custom_fields" jsonb NOT NULL,
    "tags" text[] COLLATE "C" NOT NULL,
    "series_id" uuid,
    "occurrence_at" timestamptz,
    "is_individual" boolean NOT NULL,
    "external_id" varchar(300) COLLATE "C",
    "external_sequence" bigint,
    "sealed" bytea,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("subject") <> length("subject") THEN "crm".search_text("subject") ELSE translate(coalesce("subject", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("description") <> length("description") THEN "crm".search_text("description") ELSE translate(coalesce("description", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'B')
    ) STORED,
    CONSTRAINT "activities_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "activities_version_check" CHECK ("version" >= 1),
    CONSTRAINT "activities_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "activities_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "activities_activity_type_check" CHECK ("activity_type" IN ('call', 'email', 'meeting', 'task', 'note', 'demo', 'proposal', 'follow_up', 'other')),
    CONSTRAINT "activities_status_check" CHECK ("status" IN ('planned', 'scheduled', 'in_progress', 'completed', 'cancelled', 'no_show', 'deferred')),
    CONSTRAINT "activities_priority_check" CHECK ("priority" IN ('low', 'medium', 'high', 'urgent')),
    CONSTRAINT "activities_duration_minutes_check" CHECK ("duration_minutes" BETWEEN 1 AND 2147483647),
    CONSTRAINT "activities_reminder_minutes_check" CHECK ("reminder_minutes" BETWEEN 0 AND 2147483647),
    CONSTRAINT "activities_external_sequence_check" CHECK ("external_sequence" BETWEEN 0 AND 2147483647)
);
CREATE UNIQUE INDEX "activities_series_id_occurrence_at_key" ON "crm"."activities" ("tenant_id", "series_id", "occurrence_at");
CREATE UNIQUE INDEX "activities_external_id_key" ON "crm"."activities" ("tenant_id", "external_id") WHERE "deleted_at" IS NULL;
CREATE INDEX "activities_assigned_to_due_date_id_idx" ON "crm"."activities" ("tenant_id", "assigned_to", "due_date", "id");
CREATE INDEX "activities_owner_id_status_idx" ON "crm"."activities" ("tenant_id", "owner_id", "status");
CREATE INDEX "activities_created_at_id_idx" ON "crm"."activities" ("tenant_id", "created_at", "id");
CREATE INDEX "activities_updated_at_id_idx" ON "crm"."activities" ("tenant_id", "updated_at", "id");
CREATE INDEX "activities_activity_type_idx" ON "crm"."activities" ("tenant_id", "activity_type");
CREATE INDEX "activities_account_id_idx" ON "crm"."activities" ("tenant_id", "account_id");
CREATE INDEX "activities_contact_id_idx" ON "crm"."activities" ("tenant_id", "contact_id");
CREATE INDEX "activities_deal_id_idx" ON "crm"."activities" ("tenant_id", "deal_id");
CREATE INDEX "activities_lead_id_idx" ON "crm"."activities" ("tenant_id", "lead_id");
CREATE INDEX "activities_related_id_idx" ON "crm"."activities" ("tenant_id", "related_id");
CREATE INDEX "activities_status_idx" ON "crm"."activities" ("tenant_id", "status");
CREATE INDEX "activities_scheduled_at_id_idx" ON "crm"."activities" ("tenant_id", "scheduled_at", "id");
CREATE INDEX "activities_due_date_id_idx" ON "crm"."activities" ("tenant_id", "due_date", "id");
CREATE INDEX "activities_follow_up_of_idx" ON "crm"."activities" ("tenant_id", "follow_up_of");
CREATE INDEX "activities_series_id_idx" ON "crm"."activities" ("tenant_id", "series_id");
CREATE INDEX "activities_tags_idx" ON "crm"."activities" USING gin ("tags");
CREATE INDEX "activities_search_vector_idx" ON "crm"."activities" USING gin ("search_vector");
CREATE INDEX "activities_assigned_to_due_date_id_if_open_idx" ON "crm"."activities" ("tenant_id", "assigned_to", "due_date", "id") WHERE "status" IN ('planned', 'in_progress') AND "deleted_at" IS NULL;
CREATE INDEX "activities_due_date_id_if_open_idx" ON "crm"."activities" ("tenant_id", "due_date", "id") WHERE "status" IN ('planned', 'in_progress') AND "deleted_at" IS NULL;
ALTER TABLE "crm"."activities" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."activities"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."activities" TO "crm_app";
CREATE POLICY "search" ON "crm"."activities" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "tags", "search_vector") ON "crm"."activities" TO "crm_search";

CREATE TABLE "crm"."comments" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "object" varchar(100) COLLATE "C" NOT NULL,
    "record_id" uuid NOT NULL,
    "body" varchar(32768) COLLATE "C" NOT NULL,
    "kind" varchar(50) COLLATE "C" NOT NULL,
    "title" varchar(255) COLLATE "C",
    "reply_to_id" uuid,
    "is_pinned" boolean NOT NULL,
    "edited_at" timestamptz,
    "sealed" bytea,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("body") <> length("body") THEN "crm".search_text("body") ELSE translate(coalesce("body", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
        ||         setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("title") <> length("title") THEN "crm".search_text("title") ELSE translate(coalesce("title", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'B')
    ) STORED,
    CONSTRAINT "comments_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "comments_version_check" CHECK ("version" >= 1),
    CONSTRAINT "comments_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "comments_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "comments_kind_check" CHECK ("kind" IN ('comment', 'note'))
);
CREATE INDEX "comments_record_id_created_at_id_idx" ON "crm"."comments" ("tenant_id", "record_id", "created_at", "id");
CREATE INDEX "comments_created_at_id_idx" ON "crm"."comments" ("tenant_id", "created_at", "id");
CREATE INDEX "comments_updated_at_id_idx" ON "crm"."comments" ("tenant_id", "updated_at", "id");
CREATE INDEX "comments_reply_to_id_idx" ON "crm"."comments" ("tenant_id", "reply_to_id");
CREATE INDEX "comments_search_vector_idx" ON "crm"."comments" USING gin ("search_vector");
ALTER TABLE "crm"."comments" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."comments"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."comments" TO "crm_app";
CREATE POLICY "search" ON "crm"."comments" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "search_vector") ON "crm"."comments" TO "crm_search";

CREATE TABLE "crm"."mentions" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "comment_id" uuid NOT NULL,
    "user_id" uuid NOT NULL,
    "read_at" timestamptz,
    CONSTRAINT "mentions_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "mentions_version_check" CHECK ("version" >= 1),
    CONSTRAINT "mentions_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "mentions_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous'))
);
CREATE UNIQUE INDEX "mentions_comment_id_user_id_key" ON "crm"."mentions" ("tenant_id", "comment_id", "user_id") WHERE "deleted_at" IS NULL;
CREATE INDEX "mentions_user_id_read_at_id_idx" ON "crm"."mentions" ("tenant_id", "user_id", "read_at", "id");
CREATE INDEX "mentions_created_at_id_idx" ON "crm"."mentions" ("tenant_id", "created_at", "id");
CREATE INDEX "mentions_updated_at_id_idx" ON "crm"."mentions" ("tenant_id", "updated_at", "id");
CREATE INDEX "mentions_comment_id_idx" ON "crm"."mentions" ("tenant_id", "comment_id");
ALTER TABLE "crm"."mentions" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."mentions"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."mentions" TO "crm_app";

CREATE TABLE "crm"."followers" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "object" varchar(100) COLLATE "C" NOT NULL,
    "record_id" uuid NOT NULL,
    "user_id" uuid NOT NULL,
    CONSTRAINT "followers_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "followers_version_check" CHECK ("version" >= 1),
    CONSTRAINT "followers_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "followers_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous'))
);
CREATE UNIQUE INDEX "followers_record_id_object_user_id_key" ON "crm"."followers" ("tenant_id", "record_id", "object", "user_id") WHERE "deleted_at" IS NULL;
CREATE INDEX "followers_user_id_created_at_id_idx" ON "crm"."followers" ("tenant_id", "user_id", "created_at", "id");
CREATE INDEX "followers_created_at_id_idx" ON "crm"."followers" ("tenant_id", "created_at", "id");
CREATE INDEX "followers_updated_at_id_idx" ON "crm"."followers" ("tenant_id", "updated_at", "id");
CREATE INDEX "followers_record_id_idx" ON "crm"."followers" ("tenant_id", "record_id");
ALTER TABLE "crm"."followers" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."followers"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."followers" TO "crm_app";

CREATE TABLE "crm"."merges" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "object" varchar(100) COLLATE "C" NOT NULL,
    "survivor_id" uuid NOT NULL,
    "loser_id" uuid NOT NULL,
    "commit_id" uuid NOT NULL,
    "reason" varchar(1000) COLLATE "C",
    "loser_data" jsonb NOT NULL,
    "survivor_before" jsonb NOT NULL,
    "survivor_after" jsonb NOT NULL,
    "moved_links" bigint NOT NULL,
    "dropped_links" bigint NOT NULL,
    "undone_at" timestamptz,
    "sealed" bytea,
    CONSTRAINT "merges_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "merges_version_check" CHECK ("version" >= 1),
    CONSTRAINT "merges_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "merges_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "merges_moved_links_check" CHECK ("moved_links" BETWEEN 0 AND 2147483647),
    CONSTRAINT "merges_dropped_links_check" CHECK ("dropped_links" BETWEEN 0 AND 2147483647)
);
CREATE INDEX "merges_survivor_id_idx" ON "crm"."merges" ("tenant_id", "survivor_id");
CREATE INDEX "merges_loser_id_idx" ON "crm"."merges" ("tenant_id", "loser_id");
CREATE INDEX "merges_created_at_id_idx" ON "crm"."merges" ("tenant_id", "created_at", "id");
CREATE INDEX "merges_updated_at_id_idx" ON "crm"."merges" ("tenant_id", "updated_at", "id");
ALTER TABLE "crm"."merges" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."merges"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."merges" TO "crm_app";

CREATE TABLE "crm"."merge_links" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "merge_id" uuid NOT NULL,
    "object" varchar(100) COLLATE "C" NOT NULL,
    "record_id" uuid NOT NULL,
    "field" varchar(120) COLLATE "C" NOT NULL,
    "fate" varchar(50) COLLATE "C" NOT NULL,
    CONSTRAINT "merge_links_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "merge_links_version_check" CHECK ("version" >= 1),
    CONSTRAINT "merge_links_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "merge_links_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "merge_links_fate_check" CHECK ("fate" IN ('moved', 'yielded', 'dropped', 'emptied'))
);
CREATE INDEX "merge_links_record_id_idx" ON "crm"."merge_links" ("tenant_id", "record_id");
CREATE INDEX "merge_links_created_at_id_idx" ON "crm"."merge_links" ("tenant_id", "created_at", "id");
CREATE INDEX "merge_links_merge_id_idx" ON "crm"."merge_links" ("tenant_id", "merge_id");
ALTER TABLE "crm"."merge_links" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."merge_links"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."merge_links" TO "crm_app";

CREATE TABLE "crm"."activity_participants" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "activity_id" uuid NOT NULL,
    "participant_type" varchar(50) COLLATE "C" NOT NULL,
    "user_id" uuid,
    "contact_id" uuid,
    "email" varchar(254) COLLATE "C",
    "name" varchar(200) COLLATE "C",
    "role" varchar(50) COLLATE "C",
    "attendance_status" varchar(50) COLLATE "C" NOT NULL,
    "response_status" varchar(50) COLLATE "C" NOT NULL,
    "responded_at" timestamptz,
    "notes" varchar(32768) COLLATE "C",
    "email_folded" text COLLATE "C",
    "sealed" bytea,
    CONSTRAINT "activity_participants_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "activity_participants_version_check" CHECK ("version" >= 1),
    CONSTRAINT "activity_participants_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "activity_participants_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "activity_participants_participant_type_check" CHECK ("participant_type" IN ('user', 'contact', 'external')),
    CONSTRAINT "activity_participants_attendance_status_check" CHECK ("attendance_status" IN ('invited', 'attending', 'not_attending', 'tentative')),
    CONSTRAINT "activity_participants_response_status_check" CHECK ("response_status" IN ('pending', 'accepted', 'declined', 'tentative'))
);
CREATE UNIQUE INDEX "activity_participants_activity_id_user_id_key" ON "crm"."activity_participants" ("tenant_id", "activity_id", "user_id") WHERE "deleted_at" IS NULL;
CREATE UNIQUE INDEX "activity_participants_activity_id_contact_id_key" ON "crm"."activity_participants" ("tenant_id", "activity_id", "contact_id") WHERE "deleted_at" IS NULL;
CREATE UNIQUE INDEX "activity_participants_activity_id_email_folded_key" ON "crm"."activity_participants" ("tenant_id", "activity_id", "email_folded") WHERE "deleted_at" IS NULL;
CREATE INDEX "activity_participants_created_at_id_idx" ON "crm"."activity_participants" ("tenant_id", "created_at", "id");
CREATE INDEX "activity_participants_updated_at_id_idx" ON "crm"."activity_participants" ("tenant_id", "updated_at", "id");
CREATE INDEX "activity_participants_activity_id_idx" ON "crm"."activity_participants" ("tenant_id", "activity_id");
CREATE INDEX "activity_participants_user_id_idx" ON "crm"."activity_participants" ("tenant_id", "user_id");
CREATE INDEX "activity_participants_contact_id_idx" ON "crm"."activity_participants" ("tenant_id", "contact_id");
ALTER TABLE "crm"."activity_participants" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."activity_participants"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."activity_participants" TO "crm_app";

CREATE TABLE "crm"."activity_templates" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(100) COLLATE "C" NOT NULL,
    "activity_type" varchar(50) COLLATE "C" NOT NULL,
    "subject_template" varchar(255) COLLATE "C",
    "description_template" varchar(32768) COLLATE "C",
    "duration_minutes" bigint,
    "default_priority" varchar(50) COLLATE "C" NOT NULL,
    "custom_fields_template" jsonb NOT NULL,
    "tags" text[] COLLATE "C" NOT NULL,
    "reminder_minutes" bigint,
    "due_in_days" bigint,
    "due_in_business_hours" bigint,
    "is_active" boolean NOT NULL,
    "is_global" boolean NOT NULL,
    "owner_id" uuid,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("name") <> length("name") THEN "crm".search_text("name") ELSE translate(coalesce("name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
    ) STORED,
    CONSTRAINT "activity_templates_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "activity_templates_version_check" CHECK ("version" >= 1),
    CONSTRAINT "activity_templates_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "activity_templates_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "activity_templates_activity_type_check" CHECK ("activity_type" IN ('call', 'email', 'meeting', 'task', 'note', 'demo', 'proposal', 'follow_up', 'other')),
    CONSTRAINT "activity_templates_duration_minutes_check" CHECK ("duration_minutes" BETWEEN 1 AND 2147483647),
    CONSTRAINT "activity_templates_default_priority_check" CHECK ("default_priority" IN ('low', 'medium', 'high', 'urgent')),
    CONSTRAINT "activity_templates_reminder_minutes_check" CHECK ("reminder_minutes" BETWEEN 0 AND 2147483647),
    CONSTRAINT "activity_templates_due_in_days_check" CHECK ("due_in_days" BETWEEN 0 AND 3660),
    CONSTRAINT "activity_templates_due_in_business_hours_check" CHECK ("due_in_business_hours" BETWEEN 0 AND 20000)
);
CREATE UNIQUE INDEX "activity_templates_name_key" ON "crm"."activity_templates" ("tenant_id", "name") WHERE "deleted_at" IS NULL;
CREATE INDEX "activity_templates_created_at_id_idx" ON "crm"."activity_templates" ("tenant_id", "created_at", "id");
CREATE INDEX "activity_templates_updated_at_id_idx" ON "crm"."activity_templates" ("tenant_id", "updated_at", "id");
CREATE INDEX "activity_templates_owner_id_idx" ON "crm"."activity_templates" ("tenant_id", "owner_id");
CREATE INDEX "activity_templates_tags_idx" ON "crm"."activity_templates" USING gin ("tags");
CREATE INDEX "activity_templates_search_vector_idx" ON "crm"."activity_templates" USING gin ("search_vector");
ALTER TABLE "crm"."activity_templates" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."activity_templates"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."activity_templates" TO "crm_app";
CREATE POLICY "search" ON "crm"."activity_templates" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "tags", "search_vector") ON "crm"."activity_templates" TO "crm_search";

CREATE TABLE "crm"."activity_reminders" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "activity_id" uuid NOT NULL,
    "reminder_type" varchar(50) COLLATE "C" NOT NULL,
    "offset_minutes" bigint NOT NULL,
    "reminder_time" timestamptz NOT NULL,
    "status" varchar(50) COLLATE "C" NOT NULL,
    "is_default" boolean NOT NULL,
    "recipient_id" uuid,
    "recipient_email" varchar(254) COLLATE "C",
    "message" varchar(32768) COLLATE "C",
    "sent_at" timestamptz,
    "attempts" bigint NOT NULL,
    "claimed_until" timestamptz,
    "claimed_by" varchar(100) COLLATE "C",
    "claim_token" uuid,
    "last_error" varchar(50) COLLATE "C",
    "recipient_email_folded" text COLLATE "C",
    "sealed" bytea,
    CONSTRAINT "activity_reminders_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "activity_reminders_version_check" CHECK ("version" >= 1),
    CONSTRAINT "activity_reminders_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "activity_reminders_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "activity_reminders_reminder_type_check" CHECK ("reminder_type" IN ('email', 'sms', 'push', 'desktop')),
    CONSTRAINT "activity_reminders_offset_minutes_check" CHECK ("offset_minutes" BETWEEN 0 AND 2147483647),
    CONSTRAINT "activity_reminders_status_check" CHECK ("status" IN ('pending', 'sent', 'failed', 'cancelled')),
    CONSTRAINT "activity_reminders_attempts_check" CHECK ("attempts" BETWEEN 0 AND 2147483647)
);
CREATE UNIQUE INDEX "activity_reminders_activity_id_if_is_default_key" ON "crm"."activity_reminders" ("tenant_id", "activity_id") WHERE "deleted_at" IS NULL AND "is_default";
CREATE INDEX "activity_reminders_status_reminder_time_id_idx" ON "crm"."activity_reminders" ("tenant_id", "status", "reminder_time", "id");
CREATE INDEX "activity_reminders_created_at_id_idx" ON "crm"."activity_reminders" ("tenant_id", "created_at", "id");
CREATE INDEX "activity_reminders_updated_at_id_idx" ON "crm"."activity_reminders" ("tenant_id", "updated_at", "id");
CREATE INDEX "activity_reminders_activity_id_idx" ON "crm"."activity_reminders" ("tenant_id", "activity_id");
CREATE INDEX "activity_reminders_recipient_id_idx" ON "crm"."activity_reminders" ("tenant_id", "recipient_id");
ALTER TABLE "crm"."activity_reminders" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."activity_reminders"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."activity_reminders" TO "crm_app";

CREATE TABLE "crm"."activity_roll_ups" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "object" varchar(100) COLLATE "C" NOT NULL,
    "last_activity_at" timestamptz,
    "next_activity_at" timestamptz,
    "last_contacted_at" timestamptz,
    CONSTRAINT "activity_roll_ups_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "activity_roll_ups_version_check" CHECK ("version" >= 1),
    CONSTRAINT "activity_roll_ups_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "activity_roll_ups_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous'))
);
ALTER TABLE "crm"."activity_roll_ups" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."activity_roll_ups"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."activity_roll_ups" TO "crm_app";

CREATE TABLE "crm"."export_jobs" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "object" varchar(100) COLLATE "C" NOT NULL,
    "format" varchar(50) COLLATE "C" NOT NULL,
    "query" jsonb NOT NULL,
    "columns" jsonb NOT NULL,
    "has_personal" boolean NOT NULL,
    "file_name" varchar(255) COLLATE "C",
    "status" varchar(50) COLLATE "C" NOT NULL,
    "rows" bigint NOT NULL,
    "error_code" varchar(100) COLLATE "C",
    "started_at" timestamptz,
    "completed_at" timestamptz,
    "sealed" bytea,
    CONSTRAINT "export_jobs_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "export_jobs_version_check" CHECK ("version" >= 1),
    CONSTRAINT "export_jobs_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "export_jobs_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "export_jobs_format_check" CHECK ("format" IN ('csv', 'xlsx', 'json_lines', 'tenant')),
    CONSTRAINT "export_jobs_status_check" CHECK ("status" IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
    CONSTRAINT "export_jobs_rows_check" CHECK ("rows" >= 0)
);
CREATE INDEX "export_jobs_created_at_id_idx" ON "crm"."export_jobs" ("tenant_id", "created_at", "id");
CREATE INDEX "export_jobs_updated_at_id_idx" ON "crm"."export_jobs" ("tenant_id", "updated_at", "id");
CREATE INDEX "export_jobs_object_id_idx" ON "crm"."export_jobs" ("tenant_id", "object", "id");
CREATE INDEX "export_jobs_status_idx" ON "crm"."export_jobs" ("tenant_id", "status");
ALTER TABLE "crm"."export_jobs" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."export_jobs"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."export_jobs" TO "crm_app";

CREATE TABLE "crm"."import_mappings" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "object" varchar(100) COLLATE "C" NOT NULL,
    "name" varchar(255) COLLATE "C" NOT NULL,
    "headers" varchar(64) COLLATE "C",
    "mapping" jsonb NOT NULL,
    "object_folded" text COLLATE "C" NOT NULL,
    "name_folded" text COLLATE "C" NOT NULL,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("name") <> length("name") THEN "crm".search_text("name") ELSE translate(coalesce("name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
    ) STORED,
    CONSTRAINT "import_mappings_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "import_mappings_version_check" CHECK ("version" >= 1),
    CONSTRAINT "import_mappings_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "import_mappings_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous'))
);
CREATE UNIQUE INDEX "import_mappings_object_folded_name_folded_key" ON "crm"."import_mappings" ("tenant_id", "object_folded", "name_folded") WHERE "deleted_at" IS NULL;
CREATE INDEX "import_mappings_object_folded_headers_id_idx" ON "crm"."import_mappings" ("tenant_id", "object_folded", "headers", "id");
CREATE INDEX "import_mappings_created_at_id_idx" ON "crm"."import_mappings" ("tenant_id", "created_at", "id");
CREATE INDEX "import_mappings_updated_at_id_idx" ON "crm"."import_mappings" ("tenant_id", "updated_at", "id");
CREATE INDEX "import_mappings_search_vector_idx" ON "crm"."import_mappings" USING gin ("search_vector");
ALTER TABLE "crm"."import_mappings" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."import_mappings"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."import_mappings" TO "crm_app";
CREATE POLICY "search" ON "crm"."import_mappings" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "search_vector") ON "crm"."import_mappings" TO "crm_search";

CREATE TABLE "crm"."import_jobs" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "object" varchar(100) COLLATE "C" NOT NULL,
    "file_name" varchar(255) COLLATE "C" NOT NULL,
    "file_size" bigint NOT NULL,
    "fingerprint" varchar(64) COLLATE "C" NOT NULL,
    "format" varchar(50) COLLATE "C" NOT NULL,
    "mapping" jsonb NOT NULL,
    "options" jsonb NOT NULL,
    "mode" varchar(50) COLLATE "C" NOT NULL,
    "keys" text[] COLLATE "C" NOT NULL,
    "duplicates" varchar(50) COLLATE "C" NOT NULL,
    "status" varchar(50) COLLATE "C" NOT NULL,
    "total_rows" bigint,
    "processed_rows" bigint NOT NULL,
    "created_rows" bigint NOT NULL,
    "updated_rows" bigint NOT NULL,
    "unchanged_rows" bigint NOT NULL,
    "skipped_rows" bigint NOT NULL,
    "failed_rows" bigint NOT NULL,
    "worker" uuid,
    "leased_until" timestamptz,
    "revert_before" bigint,
    "failure" varchar(100) COLLATE "C",
    "started_at" timestamptz,
    "completed_at" timestamptz,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("file_name") <> length("file_name") THEN "crm".search_text("file_name") ELSE translate(coalesce("file_name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
    ) STORED,
    CONSTRAINT "import_jobs_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "import_jobs_version_check" CHECK ("version" >= 1),
    CONSTRAINT "import_jobs_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "import_jobs_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "import_jobs_file_size_check" CHECK ("file_size" >= 0),
    CONSTRAINT "import_jobs_format_check" CHECK ("format" IN ('csv', 'spreadsheet')),
    CONSTRAINT "import_jobs_mode_check" CHECK ("mode" IN ('create', 'update', 'upsert')),
    CONSTRAINT "import_jobs_duplicates_check" CHECK ("duplicates" IN ('skip', 'refuse', 'keep')),
    CONSTRAINT "import_jobs_status_check" CHECK ("status" IN ('pending', 'processing', 'completed', 'failed', 'cancelled', 'reverted')),
    CONSTRAINT "import_jobs_total_rows_check" CHECK ("total_rows" >= 0),
    CONSTRAINT "import_jobs_processed_rows_check" CHECK ("processed_rows" >= 0),
    CONSTRAINT "import_jobs_created_rows_check" CHECK ("created_rows" >= 0),
    CONSTRAINT "import_jobs_updated_rows_check" CHECK ("updated_rows" >= 0),
    CONSTRAINT "import_jobs_unchanged_rows_check" CHECK ("unchanged_rows" >= 0),
    CONSTRAINT "import_jobs_skipped_rows_check" CHECK ("skipped_rows" >= 0),
    CONSTRAINT "import_jobs_failed_rows_check" CHECK ("failed_rows" >= 0),
    CONSTRAINT "import_jobs_revert_before_check" CHECK ("revert_before" >= 0)
);
CREATE INDEX "import_jobs_status_created_at_id_idx" ON "crm"."import_jobs" ("tenant_id", "status", "created_at", "id");
CREATE INDEX "import_jobs_created_at_id_idx" ON "crm"."import_jobs" ("tenant_id", "created_at", "id");
CREATE INDEX "import_jobs_updated_at_id_idx" ON "crm"."import_jobs" ("tenant_id", "updated_at", "id");
CREATE INDEX "import_jobs_keys_idx" ON "crm"."import_jobs" USING gin ("keys");
CREATE INDEX "import_jobs_search_vector_idx" ON "crm"."import_jobs" USING gin ("search_vector");
ALTER TABLE "crm"."import_jobs" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."import_jobs"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."import_jobs" TO "crm_app";
CREATE POLICY "search" ON "crm"."import_jobs" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "keys", "search_vector") ON "crm"."import_jobs" TO "crm_search";

CREATE TABLE "crm"."import_rows" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "job_id" uuid NOT NULL,
    "row_number" bigint NOT NULL,
    "sequence" bigint NOT NULL,
    "outcome" varchar(50) COLLATE "C" NOT NULL,
    "phase" varchar(50) COLLATE "C" NOT NULL,
    "place" bigint NOT NULL,
    "object" varchar(100) COLLATE "C",
    "record_id" uuid,
    "record_version" bigint,
    "former" jsonb,
    "faults" jsonb,
    "sealed" bytea,
    CONSTRAINT "import_rows_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "import_rows_version_check" CHECK ("version" >= 1),
    CONSTRAINT "import_rows_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "import_rows_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "import_rows_row_number_check" CHECK ("row_number" >= 1),
    CONSTRAINT "import_rows_sequence_check" CHECK ("sequence" >= 1),
    CONSTRAINT "import_rows_outcome_check" CHECK ("outcome" IN ('created', 'updated', 'unchanged', 'skipped', 'failed', 'kept')),
    CONSTRAINT "import_rows_phase_check" CHECK ("phase" IN ('run', 'revert')),
    CONSTRAINT "import_rows_place_check" CHECK ("place" BETWEEN 0 AND 2147483647),
    CONSTRAINT "import_rows_record_version_check" CHECK ("record_version" >= 1)
);
CREATE UNIQUE INDEX "import_rows_job_id_phase_sequence_place_key" ON "crm"."import_rows" ("tenant_id", "job_id", "phase", "sequence", "place");
CREATE INDEX "import_rows_created_at_id_idx" ON "crm"."import_rows" ("tenant_id", "created_at", "id");
CREATE INDEX "import_rows_job_id_idx" ON "crm"."import_rows" ("tenant_id", "job_id");
ALTER TABLE "crm"."import_rows" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."import_rows"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."import_rows" TO "crm_app";

CREATE TABLE "crm"."duplicate_rules" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(100) COLLATE "C" NOT NULL,
    "object" varchar(100) COLLATE "C" NOT NULL,
    "rule" jsonb NOT NULL,
    "mode" varchar(50) COLLATE "C" NOT NULL,
    "is_active" boolean NOT NULL,
    "position" bigint NOT NULL,
    "state" varchar(50) COLLATE "C" NOT NULL,
    "name_folded" text COLLATE "C" NOT NULL,
    CONSTRAINT "duplicate_rules_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "duplicate_rules_version_check" CHECK ("version" >= 1),
    CONSTRAINT "duplicate_rules_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "duplicate_rules_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "duplicate_rules_mode_check" CHECK ("mode" IN ('warn', 'strict')),
    CONSTRAINT "duplicate_rules_position_check" CHECK ("position" BETWEEN 0 AND 2147483647),
    CONSTRAINT "duplicate_rules_state_check" CHECK ("state" IN ('building', 'ready', 'inactive'))
);
CREATE UNIQUE INDEX "duplicate_rules_name_folded_key" ON "crm"."duplicate_rules" ("tenant_id", "name_folded") WHERE "deleted_at" IS NULL;
CREATE INDEX "duplicate_rules_created_at_id_idx" ON "crm"."duplicate_rules" ("tenant_id", "created_at", "id");
CREATE INDEX "duplicate_rules_updated_at_id_idx" ON "crm"."duplicate_rules" ("tenant_id", "updated_at", "id");
ALTER TABLE "crm"."duplicate_rules" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."duplicate_rules"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."duplicate_rules" TO "crm_app";

CREATE TABLE "crm"."duplicate_keys" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "rule_id" uuid NOT NULL,
    "key" uuid NOT NULL,
    "record_id" uuid NOT NULL,
    CONSTRAINT "duplicate_keys_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "duplicate_keys_version_check" CHECK ("version" >= 1),
    CONSTRAINT "duplicate_keys_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "duplicate_keys_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous'))
);
CREATE INDEX "duplicate_keys_key_record_id_idx" ON "crm"."duplicate_keys" ("tenant_id", "key", "record_id");
CREATE INDEX "duplicate_keys_record_id_idx" ON "crm"."duplicate_keys" ("tenant_id", "record_id");
ALTER TABLE "crm"."duplicate_keys" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."duplicate_keys"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."duplicate_keys" TO "crm_app";

CREATE TABLE "crm"."custom_objects" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(100) COLLATE "C",
    "api_name" varchar(100) COLLATE "C" NOT NULL,
    "label" varchar(255) COLLATE "C" NOT NULL,
    "plural_label" varchar(255) COLLATE "C" NOT NULL,
    "description" varchar(32768) COLLATE "C",
    "icon" varchar(100) COLLATE "C",
    "color" varchar(7) COLLATE "C",
    "record_name_field" varchar(100) COLLATE "C",
    "allow_reports" boolean NOT NULL,
    "allow_activities" boolean NOT NULL,
    "is_active" boolean NOT NULL,
    "is_system" boolean NOT NULL,
    "permissions" jsonb NOT NULL,
    "validation_rules" jsonb NOT NULL,
    "triggers" jsonb NOT NULL,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("label") <> length("label") THEN "crm".search_text("label") ELSE translate(coalesce("label", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
    ) STORED,
    CONSTRAINT "custom_objects_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "custom_objects_version_check" CHECK ("version" >= 1),
    CONSTRAINT "custom_objects_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "custom_objects_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous'))
);
CREATE UNIQUE INDEX "custom_objects_api_name_key" ON "crm"."custom_objects" ("tenant_id", "api_name") WHERE "deleted_at" IS NULL;
CREATE UNIQUE INDEX "custom_objects_name_key" ON "crm"."custom_objects" ("tenant_id", "name") WHERE "deleted_at" IS NULL;
CREATE INDEX "custom_objects_created_at_id_idx" ON "crm"."custom_objects" ("tenant_id", "created_at", "id");
CREATE INDEX "custom_objects_updated_at_id_idx" ON "crm"."custom_objects" ("tenant_id", "updated_at", "id");
CREATE INDEX "custom_objects_search_vector_idx" ON "crm"."custom_objects" USING gin ("search_vector");
ALTER TABLE "crm"."custom_objects" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."custom_objects"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."custom_objects" TO "crm_app";
CREATE POLICY "search" ON "crm"."custom_objects" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "search_vector") ON "crm"."custom_objects" TO "crm_search";

CREATE TABLE "crm"."custom_relationships" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(100) COLLATE "C" NOT NULL,
    "from_object" varchar(100) COLLATE "C" NOT NULL,
    "to_object" varchar(100) COLLATE "C" NOT NULL,
    "kind" varchar(50) COLLATE "C" NOT NULL,
    "cardinality" varchar(50) COLLATE "C" NOT NULL,
    "from_object_id" uuid,
    "to_object_id" uuid,
    "from_field" varchar(100) COLLATE "C",
    "to_field" varchar(100) COLLATE "C",
    "is_required" boolean NOT NULL,
    "cascade_delete" boolean NOT NULL,
    "is_active" boolean NOT NULL,
    "label" varchar(255) COLLATE "C",
    "description" varchar(32768) COLLATE "C",
    CONSTRAINT "custom_relationships_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "custom_relationships_version_check" CHECK ("version" >= 1),
    CONSTRAINT "custom_relationships_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "custom_relationships_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "custom_relationships_kind_check" CHECK ("kind" IN ('lookup', 'master_detail', 'many_to_many')),
    CONSTRAINT "custom_relationships_cardinality_check" CHECK ("cardinality" IN ('one_to_one', 'one_to_many', 'many_to_one', 'many_to_many'))
);
CREATE UNIQUE INDEX "custom_relationships_name_key" ON "crm"."custom_relationships" ("tenant_id", "name") WHERE "deleted_at" IS NULL;
CREATE INDEX "custom_relationships_from_object_idx" ON "crm"."custom_relationships" ("tenant_id", "from_object");
CREATE INDEX "custom_relationships_to_object_idx" ON "crm"."custom_relationships" ("tenant_id", "to_object");
CREATE INDEX "custom_relationships_created_at_id_idx" ON "crm"."custom_relationships" ("tenant_id", "created_at", "id");
CREATE INDEX "custom_relationships_updated_at_id_idx" ON "crm"."custom_relationships" ("tenant_id", "updated_at", "id");
CREATE INDEX "custom_relationships_from_object_id_idx" ON "crm"."custom_relationships" ("tenant_id", "from_object_id");
CREATE INDEX "custom_relationships_to_object_id_idx" ON "crm"."custom_relationships" ("tenant_id", "to_object_id");
ALTER TABLE "crm"."custom_relationships" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."custom_relationships"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."custom_relationships" TO "crm_app";

CREATE TABLE "crm"."custom_field_definitions" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "object" varchar(100) COLLATE "C" NOT NULL,
    "object_id" uuid,
    "relationship_id" uuid,
    "name" varchar(100) COLLATE "C",
    "api_name" varchar(100) COLLATE "C" NOT NULL,
    "key" varchar(100) COLLATE "C",
    "former_names" text[] COLLATE "C" NOT NULL,
    "label" varchar(255) COLLATE "C" NOT NULL,
    "description" varchar(32768) COLLATE "C",
    "field_type" jsonb NOT NULL,
    "controlling_field_id" uuid,
    "is_required" boolean NOT NULL,
    "is_unique" boolean NOT NULL,
    "is_indexed" boolean NOT NULL,
    "index_state" varchar(50) COLLATE "C" NOT NULL,
    "is_searchable" boolean NOT NULL,
    "search_state" varchar(50) COLLATE "C" NOT NULL,
    "is_personal" boolean NOT NULL,
    "is_system" boolean NOT NULL,
    "is_active" boolean NOT NULL,
    "default_value" jsonb,
    "display_options" jsonb NOT NULL,
    "display_order" bigint NOT NULL,
    "stale_since" timestamptz,
    "help_text" varchar(1000) COLLATE "C",
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("label") <> length("label") THEN "crm".search_text("label") ELSE translate(coalesce("label", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
    ) STORED,
    CONSTRAINT "custom_field_definitions_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "custom_field_definitions_version_check" CHECK ("version" >= 1),
    CONSTRAINT "custom_field_definitions_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "custom_field_definitions_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "custom_field_definitions_index_state_check" CHECK ("index_state" IN ('none', 'building', 'ready', 'removing')),
    CONSTRAINT "custom_field_definitions_search_state_check" CHECK ("search_state" IN ('none', 'building', 'ready', 'removing')),
    CONSTRAINT "custom_field_definitions_display_order_check" CHECK ("display_order" BETWEEN 0 AND 2147483647)
);
CREATE UNIQUE INDEX "custom_field_definitions_object_key_key" ON "crm"."custom_field_definitions" ("tenant_id", "object", "key");
CREATE UNIQUE INDEX "custom_field_definitions_object_api_name_key" ON "crm"."custom_field_definitions" ("tenant_id", "object", "api_name") WHERE "deleted_at" IS NULL;
CREATE UNIQUE INDEX "custom_field_definitions_object_name_key" ON "crm"."custom_field_definitions" ("tenant_id", "object", "name") WHERE "deleted_at" IS NULL;
CREATE INDEX "custom_field_definitions_created_at_id_idx" ON "crm"."custom_field_definitions" ("tenant_id", "created_at", "id");
CREATE INDEX "custom_field_definitions_updated_at_id_idx" ON "crm"."custom_field_definitions" ("tenant_id", "updated_at", "id");
CREATE INDEX "custom_field_definitions_object_id_idx" ON "crm"."custom_field_definitions" ("tenant_id", "object_id");
CREATE INDEX "custom_field_definitions_relationship_id_idx" ON "crm"."custom_field_definitions" ("tenant_id", "relationship_id");
CREATE INDEX "custom_field_definitions_controlling_field_id_idx" ON "crm"."custom_field_definitions" ("tenant_id", "controlling_field_id");
CREATE INDEX "custom_field_definitions_former_names_idx" ON "crm"."custom_field_definitions" USING gin ("former_names");
CREATE INDEX "custom_field_definitions_search_vector_idx" ON "crm"."custom_field_definitions" USING gin ("search_vector");
ALTER TABLE "crm"."custom_field_definitions" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."custom_field_definitions"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."custom_field_definitions" TO "crm_app";
CREATE POLICY "search" ON "crm"."custom_field_definitions" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "former_names", "search_vector") ON "crm"."custom_field_definitions" TO "crm_search";

CREATE TABLE "crm"."custom_field_options" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "field_id" uuid NOT NULL,
    "value" varchar(255) COLLATE "C" NOT NULL,
    "label" varchar(255) COLLATE "C" NOT NULL,
    "position" bigint NOT NULL,
    "is_default" boolean NOT NULL,
    "is_active" boolean NOT NULL,
    "color" varchar(7) COLLATE "C",
    "controlling_values" text[] COLLATE "C" NOT NULL,
    CONSTRAINT "custom_field_options_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "custom_field_options_version_check" CHECK ("version" >= 1),
    CONSTRAINT "custom_field_options_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "custom_field_options_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "custom_field_options_position_check" CHECK ("position" BETWEEN 0 AND 2147483647)
);
CREATE UNIQUE INDEX "custom_field_options_field_id_value_key" ON "crm"."custom_field_options" ("tenant_id", "field_id", "value") WHERE "deleted_at" IS NULL;
CREATE INDEX "custom_field_options_field_id_position_id_idx" ON "crm"."custom_field_options" ("tenant_id", "field_id", "position", "id");
CREATE INDEX "custom_field_options_created_at_id_idx" ON "crm"."custom_field_options" ("tenant_id", "created_at", "id");
CREATE INDEX "custom_field_options_updated_at_id_idx" ON "crm"."custom_field_options" ("tenant_id", "updated_at", "id");
CREATE INDEX "custom_field_options_controlling_values_idx" ON "crm"."custom_field_options" USING gin ("controlling_values");
ALTER TABLE "crm"."custom_field_options" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."custom_field_options"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."custom_field_options" TO "crm_app";
CREATE POLICY "search" ON "crm"."custom_field_options" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "controlling_values") ON "crm"."custom_field_options" TO "crm_search";

CREATE TABLE "crm"."custom_field_rules" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "object" varchar(100) COLLATE "C" NOT NULL,
    "object_id" uuid,
    "name" varchar(100) COLLATE "C" NOT NULL,
    "expression" varchar(4000) COLLATE "C" NOT NULL,
    "message" varchar(500) COLLATE "C" NOT NULL,
    "field" varchar(100) COLLATE "C",
    "is_active" boolean NOT NULL,
    "object_folded" text COLLATE "C" NOT NULL,
    "name_folded" text COLLATE "C" NOT NULL,
    CONSTRAINT "custom_field_rules_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "custom_field_rules_version_check" CHECK ("version" >= 1),
    CONSTRAINT "custom_field_rules_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "custom_field_rules_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous'))
);
CREATE UNIQUE INDEX "custom_field_rules_object_folded_name_folded_key" ON "crm"."custom_field_rules" ("tenant_id", "object_folded", "name_folded") WHERE "deleted_at" IS NULL;
CREATE INDEX "custom_field_rules_created_at_id_idx" ON "crm"."custom_field_rules" ("tenant_id", "created_at", "id");
CREATE INDEX "custom_field_rules_updated_at_id_idx" ON "crm"."custom_field_rules" ("tenant_id", "updated_at", "id");
CREATE INDEX "custom_field_rules_object_id_idx" ON "crm"."custom_field_rules" ("tenant_id", "object_id");
ALTER TABLE "crm"."custom_field_rules" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."custom_field_rules"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."custom_field_rules" TO "crm_app";

CREATE TABLE "crm"."custom_schemas" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "revision" bigint NOT NULL,
    "closed_objects" text[] COLLATE "C" NOT NULL,
    CONSTRAINT "custom_schemas_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "custom_schemas_version_check" CHECK ("version" >= 1),
    CONSTRAINT "custom_schemas_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "custom_schemas_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "custom_schemas_revision_check" CHECK ("revision" >= 1)
);
CREATE INDEX "custom_schemas_closed_objects_idx" ON "crm"."custom_schemas" USING gin ("closed_objects");
ALTER TABLE "crm"."custom_schemas" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."custom_schemas"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."custom_schemas" TO "crm_app";
CREATE POLICY "search" ON "crm"."custom_schemas" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "closed_objects") ON "crm"."custom_schemas" TO "crm_search";

CREATE TABLE "crm"."custom_records" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "object_id" uuid NOT NULL,
    "name" varchar(255) COLLATE "C" NOT NULL,
    "owner_id" uuid,
    "tags" text[] COLLATE "C" NOT NULL,
    "last_activity_at" timestamptz,
    "next_activity_at" timestamptz,
    "custom_fields" jsonb NOT NULL,
    "sealed" bytea,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("name") <> length("name") THEN "crm".search_text("name") ELSE translate(coalesce("name", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
    ) STORED,
    CONSTRAINT "custom_records_pkey" PRIMARY KEY ("tenant_id", "object_id", "id"),
    CONSTRAINT "custom_records_version_check" CHECK ("version" >= 1),
    CONSTRAINT "custom_records_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "custom_records_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous'))
);
CREATE INDEX "custom_records_object_id_name_id_idx" ON "crm"."custom_records" ("tenant_id", "object_id", "name", "id");
CREATE INDEX "custom_records_object_id_owner_id_idx" ON "crm"."custom_records" ("tenant_id", "object_id", "owner_id");
CREATE INDEX "custom_records_object_id_created_at_id_idx" ON "crm"."custom_records" ("tenant_id", "object_id", "created_at", "id");
CREATE INDEX "custom_records_object_id_updated_at_id_idx" ON "crm"."custom_records" ("tenant_id", "object_id", "updated_at", "id");
CREATE INDEX "custom_records_owner_id_idx" ON "crm"."custom_records" ("tenant_id", "owner_id");
CREATE INDEX "custom_records_tags_idx" ON "crm"."custom_records" USING gin ("tags");
CREATE INDEX "custom_records_search_vector_idx" ON "crm"."custom_records" USING gin ("search_vector");
ALTER TABLE "crm"."custom_records" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."custom_records"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."custom_records" TO "crm_app";
CREATE POLICY "search" ON "crm"."custom_records" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "tags", "search_vector", "object_id") ON "crm"."custom_records" TO "crm_search";

CREATE TABLE "crm"."custom_links" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "relationship_id" uuid NOT NULL,
    "from_id" uuid NOT NULL,
    "to_id" uuid NOT NULL,
    "data" jsonb NOT NULL,
    "sealed" bytea,
    CONSTRAINT "custom_links_pkey" PRIMARY KEY ("tenant_id", "relationship_id", "id"),
    CONSTRAINT "custom_links_version_check" CHECK ("version" >= 1),
    CONSTRAINT "custom_links_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "custom_links_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous'))
);
CREATE UNIQUE INDEX "custom_links_relationship_id_from_id_to_id_key" ON "crm"."custom_links" ("tenant_id", "relationship_id", "from_id", "to_id") WHERE "deleted_at" IS NULL;
CREATE INDEX "custom_links_relationship_id_to_id_idx" ON "crm"."custom_links" ("tenant_id", "relationship_id", "to_id");
CREATE INDEX "custom_links_relationship_id_created_at_id_idx" ON "crm"."custom_links" ("tenant_id", "relationship_id", "created_at", "id");
CREATE INDEX "custom_links_relationship_id_updated_at_id_idx" ON "crm"."custom_links" ("tenant_id", "relationship_id", "updated_at", "id");
CREATE INDEX "custom_links_relationship_id_from_id_idx" ON "crm"."custom_links" ("tenant_id", "relationship_id", "from_id");
ALTER TABLE "crm"."custom_links" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."custom_links"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."custom_links" TO "crm_app";

CREATE TABLE "crm"."custom_field_values" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "object" varchar(100) COLLATE "C" NOT NULL,
    "record_id" uuid NOT NULL,
    "field_id" uuid NOT NULL,
    "text_value" varchar(255) COLLATE "C",
    "number_value" numeric(28,10),
    "unique_key" varchar(255) COLLATE "C",
    "target_id" uuid,
    "number_value_rounded" double precision,
    "sealed" bytea,
    CONSTRAINT "custom_field_values_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "custom_field_values_version_check" CHECK ("version" >= 1),
    CONSTRAINT "custom_field_values_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "custom_field_values_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous'))
);
CREATE UNIQUE INDEX "custom_field_values_record_id_field_id_key" ON "crm"."custom_field_values" ("tenant_id", "record_id", "field_id");
CREATE UNIQUE INDEX "custom_field_values_field_id_unique_key_key" ON "crm"."custom_field_values" ("tenant_id", "field_id", "unique_key") WHERE "deleted_at" IS NULL;
CREATE INDEX "custom_field_values_field_id_text_value_id_idx" ON "crm"."custom_field_values" ("tenant_id", "field_id", "text_value", "id");
CREATE INDEX "custom_field_values_field_id_number_value_d3f32b2617" ON "crm"."custom_field_values" ("tenant_id", "field_id", "number_value_rounded", "number_value", "id");
CREATE INDEX "custom_field_values_target_id_field_id_idx" ON "crm"."custom_field_values" ("tenant_id", "target_id", "field_id");
ALTER TABLE "crm"."custom_field_values" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."custom_field_values"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."custom_field_values" TO "crm_app";

CREATE TABLE "crm"."custom_field_texts" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "object" varchar(100) COLLATE "C" NOT NULL,
    "record_id" uuid NOT NULL,
    "words" varchar(100000) COLLATE "C" NOT NULL,
    "sealed" bytea,
    "search_vector" tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple'::regconfig, CASE WHEN octet_length("words") <> length("words") THEN "crm".search_text("words") ELSE translate(coalesce("words", ''), E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', '                                ') END), 'A')
    ) STORED,
    CONSTRAINT "custom_field_texts_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "custom_field_texts_version_check" CHECK ("version" >= 1),
    CONSTRAINT "custom_field_texts_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "custom_field_texts_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous'))
);
CREATE UNIQUE INDEX "custom_field_texts_record_id_key" ON "crm"."custom_field_texts" ("tenant_id", "record_id") WHERE "deleted_at" IS NULL;
CREATE INDEX "custom_field_texts_search_vector_idx" ON "crm"."custom_field_texts" USING gin ("search_vector");
ALTER TABLE "crm"."custom_field_texts" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."custom_field_texts"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."custom_field_texts" TO "crm_app";
CREATE POLICY "search" ON "crm"."custom_field_texts" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "search_vector", "object", "record_id") ON "crm"."custom_field_texts" TO "crm_search";

CREATE TABLE "crm"."custom_field_usages" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "field_id" uuid NOT NULL,
    "written_count" bigint NOT NULL,
    "queried_count" bigint NOT NULL,
    "last_used_at" timestamptz NOT NULL,
    CONSTRAINT "custom_field_usages_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "custom_field_usages_version_check" CHECK ("version" >= 1),
    CONSTRAINT "custom_field_usages_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "custom_field_usages_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "custom_field_usages_written_count_check" CHECK ("written_count" >= 0),
    CONSTRAINT "custom_field_usages_queried_count_check" CHECK ("queried_count" >= 0)
);
CREATE INDEX "custom_field_usages_field_id_idx" ON "crm"."custom_field_usages" ("tenant_id", "field_id");
ALTER TABLE "crm"."custom_field_usages" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."custom_field_usages"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."custom_field_usages" TO "crm_app";

CREATE TABLE "crm"."audit_events" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "commit_id" uuid NOT NULL,
    "event" varchar(50) COLLATE "C" NOT NULL,
    "category" varchar(50) COLLATE "C" NOT NULL,
    "object" varchar(100) COLLATE "C" NOT NULL,
    "record_id" uuid NOT NULL,
    "record_version" bigint NOT NULL,
    "changes" jsonb NOT NULL,
    "session_id" varchar(255) COLLATE "C",
    "ip" varchar(45) COLLATE "C",
    "user_agent" varchar(1000) COLLATE "C",
    "endpoint" varchar(500) COLLATE "C",
    "request_id" uuid,
    "salt" uuid,
    "redaction" jsonb,
    "sealed" bytea,
    "transaction_id" xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT "audit_events_pkey" PRIMARY KEY ("tenant_id", "created_at", "id"),
    CONSTRAINT "audit_events_version_check" CHECK ("version" >= 1),
    CONSTRAINT "audit_events_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "audit_events_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "audit_events_event_check" CHECK ("event" IN ('create', 'update', 'delete', 'restore', 'purge', 'erase', 'read')),
    CONSTRAINT "audit_events_category_check" CHECK ("category" IN ('data_change', 'configuration', 'authorization', 'data_access')),
    CONSTRAINT "audit_events_record_version_check" CHECK ("record_version" >= 1)
) PARTITION BY RANGE ("created_at");
CREATE INDEX "audit_events_record_id_record_version_id_idx" ON "crm"."audit_events" ("tenant_id", "record_id", "record_version", "id");
CREATE INDEX "audit_events_created_by_id_created_at_id_idx" ON "crm"."audit_events" ("tenant_id", "created_by_id", "created_at", "id");
CREATE INDEX "audit_events_commit_id_idx" ON "crm"."audit_events" ("tenant_id", "commit_id");
CREATE INDEX "audit_events_id_idx" ON "crm"."audit_events" ("tenant_id", "id");
CREATE INDEX "audit_events_transaction_id_id_idx" ON "crm"."audit_events" ("tenant_id", "transaction_id", "id");
CREATE INDEX "audit_events_created_at_id_if_read_idx" ON "crm"."audit_events" ("tenant_id", "created_at", "id") WHERE "event" = 'read';
ALTER TABLE "crm"."audit_events" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."audit_events"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT ("tenant_id", "id", "version", "created_at", "created_by", "created_by_id", "updated_at", "updated_by", "updated_by_id", "archived_at", "deleted_at", "commit_id", "event", "category", "object", "record_id", "record_version", "changes", "session_id", "ip", "user_agent", "endpoint", "request_id", "salt", "redaction", "sealed"), UPDATE ("version", "updated_at", "updated_by", "updated_by_id", "changes", "session_id", "ip", "user_agent", "salt", "redaction", "sealed") ON "crm"."audit_events" TO "crm_app";
GRANT SELECT, DELETE ON "crm"."audit_events" TO "crm_search";
CREATE TABLE "crm"."audit_events_default" PARTITION OF "crm"."audit_events" DEFAULT;
ALTER TABLE "crm"."audit_events_default" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE TABLE "crm"."audit_events_archive" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "commit_id" uuid NOT NULL,
    "event" varchar(50) COLLATE "C" NOT NULL,
    "category" varchar(50) COLLATE "C" NOT NULL,
    "object" varchar(100) COLLATE "C" NOT NULL,
    "record_id" uuid NOT NULL,
    "record_version" bigint NOT NULL,
    "changes" jsonb NOT NULL,
    "session_id" varchar(255) COLLATE "C",
    "ip" varchar(45) COLLATE "C",
    "user_agent" varchar(1000) COLLATE "C",
    "endpoint" varchar(500) COLLATE "C",
    "request_id" uuid,
    "salt" uuid,
    "redaction" jsonb,
    "sealed" bytea,
    "transaction_id" xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT "audit_events_archive_pkey" PRIMARY KEY ("tenant_id", "created_at", "id"),
    CONSTRAINT "audit_events_version_check" CHECK ("version" >= 1),
    CONSTRAINT "audit_events_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "audit_events_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "audit_events_event_check" CHECK ("event" IN ('create', 'update', 'delete', 'restore', 'purge', 'erase', 'read')),
    CONSTRAINT "audit_events_category_check" CHECK ("category" IN ('data_change', 'configuration', 'authorization', 'data_access')),
    CONSTRAINT "audit_events_record_version_check" CHECK ("record_version" >= 1)
) PARTITION BY RANGE ("created_at");
COMMENT ON TABLE "crm"."audit_events_archive" IS 'archive of audit_events';
CREATE INDEX "audit_events_archive_record_id_record_version_id_idx" ON "crm"."audit_events_archive" ("tenant_id", "record_id", "record_version", "id");
CREATE INDEX "audit_events_archive_created_by_id_created_at_id_idx" ON "crm"."audit_events_archive" ("tenant_id", "created_by_id", "created_at", "id");
CREATE INDEX "audit_events_archive_commit_id_idx" ON "crm"."audit_events_archive" ("tenant_id", "commit_id");
CREATE INDEX "audit_events_archive_id_idx" ON "crm"."audit_events_archive" ("tenant_id", "id");
CREATE INDEX "audit_events_archive_transaction_id_id_idx" ON "crm"."audit_events_archive" ("tenant_id", "transaction_id", "id");
ALTER TABLE "crm"."audit_events_archive" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."audit_events_archive"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT ("tenant_id", "id", "version", "created_at", "created_by", "created_by_id", "updated_at", "updated_by", "updated_by_id", "archived_at", "deleted_at", "commit_id", "event", "category", "object", "record_id", "record_version", "changes", "session_id", "ip", "user_agent", "endpoint", "request_id", "salt", "redaction", "sealed"), UPDATE ("version", "updated_at", "updated_by", "updated_by_id", "changes", "session_id", "ip", "user_agent", "salt", "redaction", "sealed") ON "crm"."audit_events_archive" TO "crm_app";
GRANT SELECT, INSERT, DELETE ON "crm"."audit_events_archive" TO "crm_search";
CREATE TABLE "crm"."audit_events_archive_default" PARTITION OF "crm"."audit_events_archive" DEFAULT;
ALTER TABLE "crm"."audit_events_archive_default" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE TABLE "crm"."audit_seals" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "number" bigint NOT NULL,
    "after_position" varchar(48) COLLATE "C" NOT NULL,
    "until_position" varchar(48) COLLATE "C" NOT NULL,
    "events" bigint NOT NULL,
    "hashes" varchar(75000) COLLATE "C" NOT NULL,
    "previous" varchar(64) COLLATE "C" NOT NULL,
    "hash" varchar(64) COLLATE "C" NOT NULL,
    "key_id" varchar(100) COLLATE "C",
    "signature" varchar(700) COLLATE "C",
    CONSTRAINT "audit_seals_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "audit_seals_version_check" CHECK ("version" >= 1),
    CONSTRAINT "audit_seals_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "audit_seals_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "audit_seals_number_check" CHECK ("number" >= 1),
    CONSTRAINT "audit_seals_events_check" CHECK ("events" BETWEEN 1 AND 1000)
);
CREATE UNIQUE INDEX "audit_seals_number_key" ON "crm"."audit_seals" ("tenant_id", "number");
CREATE INDEX "audit_seals_created_at_id_idx" ON "crm"."audit_seals" ("tenant_id", "created_at", "id");
ALTER TABLE "crm"."audit_seals" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."audit_seals"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT ON "crm"."audit_seals" TO "crm_app";

CREATE TABLE "crm"."auth_events" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "kind" varchar(50) COLLATE "C" NOT NULL,
    "outcome" varchar(50) COLLATE "C" NOT NULL,
    "occurred_at" timestamptz NOT NULL,
    "user_id" uuid,
    "login" varchar(320) COLLATE "C",
    "ip" varchar(45) COLLATE "C",
    "user_agent" varchar(1000) COLLATE "C",
    "session_id" varchar(255) COLLATE "C",
    "method" varchar(50) COLLATE "C",
    "reason" varchar(100) COLLATE "C",
    "sealed" bytea,
    "transaction_id" xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT "auth_events_pkey" PRIMARY KEY ("tenant_id", "created_at", "id"),
    CONSTRAINT "auth_events_version_check" CHECK ("version" >= 1),
    CONSTRAINT "auth_events_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "auth_events_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "auth_events_kind_check" CHECK ("kind" IN ('login', 'logout', 'second_factor', 'second_factor_change', 'password_change', 'password_reset', 'session_end', 'token_issue', 'token_revoke', 'lock', 'unlock')),
    CONSTRAINT "auth_events_outcome_check" CHECK ("outcome" IN ('success', 'failure', 'blocked'))
) PARTITION BY RANGE ("created_at");
CREATE INDEX "auth_events_user_id_occurred_at_id_idx" ON "crm"."auth_events" ("tenant_id", "user_id", "occurred_at", "id");
CREATE INDEX "auth_events_ip_occurred_at_id_idx" ON "crm"."auth_events" ("tenant_id", "ip", "occurred_at", "id");
CREATE INDEX "auth_events_login_occurred_at_id_idx" ON "crm"."auth_events" ("tenant_id", "login", "occurred_at", "id");
CREATE INDEX "auth_events_outcome_occurred_at_id_idx" ON "crm"."auth_events" ("tenant_id", "outcome", "occurred_at", "id");
CREATE INDEX "auth_events_occurred_at_id_idx" ON "crm"."auth_events" ("tenant_id", "occurred_at", "id");
CREATE INDEX "auth_events_id_idx" ON "crm"."auth_events" ("tenant_id", "id");
CREATE INDEX "auth_events_transaction_id_id_idx" ON "crm"."auth_events" ("tenant_id", "transaction_id", "id");
ALTER TABLE "crm"."auth_events" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."auth_events"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT ("tenant_id", "id", "version", "created_at", "created_by", "created_by_id", "updated_at", "updated_by", "updated_by_id", "archived_at", "deleted_at", "kind", "outcome", "occurred_at", "user_id", "login", "ip", "user_agent", "session_id", "method", "reason", "sealed"), UPDATE ("tenant_id", "id", "version", "created_at", "created_by", "created_by_id", "updated_at", "updated_by", "updated_by_id", "archived_at", "deleted_at", "kind", "outcome", "occurred_at", "user_id", "login", "ip", "user_agent", "session_id", "method", "reason", "sealed"), DELETE ON "crm"."auth_events" TO "crm_app";
GRANT SELECT, DELETE ON "crm"."auth_events" TO "crm_search";
CREATE TABLE "crm"."auth_events_default" PARTITION OF "crm"."auth_events" DEFAULT;
ALTER TABLE "crm"."auth_events_default" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE TABLE "crm"."api_calls" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "method" varchar(20) COLLATE "C" NOT NULL,
    "endpoint" varchar(300) COLLATE "C" NOT NULL,
    "status" bigint NOT NULL,
    "duration" bigint NOT NULL,
    "duration_class" bigint NOT NULL,
    "occurred_at" timestamptz NOT NULL,
    "user_id" uuid,
    "client" varchar(150) COLLATE "C",
    "request_id" uuid,
    "ip" varchar(45) COLLATE "C",
    "sealed" bytea,
    "transaction_id" xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT "api_calls_pkey" PRIMARY KEY ("tenant_id", "created_at", "id"),
    CONSTRAINT "api_calls_version_check" CHECK ("version" >= 1),
    CONSTRAINT "api_calls_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "api_calls_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "api_calls_status_check" CHECK ("status" BETWEEN 100 AND 599),
    CONSTRAINT "api_calls_duration_check" CHECK ("duration" >= 0),
    CONSTRAINT "api_calls_duration_class_check" CHECK ("duration_class" >= 0)
) PARTITION BY RANGE ("created_at");
CREATE INDEX "api_calls_endpoint_occurred_at_id_idx" ON "crm"."api_calls" ("tenant_id", "endpoint", "occurred_at", "id");
CREATE INDEX "api_calls_user_id_occurred_at_id_idx" ON "crm"."api_calls" ("tenant_id", "user_id", "occurred_at", "id");
CREATE INDEX "api_calls_client_occurred_at_id_idx" ON "crm"."api_calls" ("tenant_id", "client", "occurred_at", "id");
CREATE INDEX "api_calls_occurred_at_id_idx" ON "crm"."api_calls" ("tenant_id", "occurred_at", "id");
CREATE INDEX "api_calls_id_idx" ON "crm"."api_calls" ("tenant_id", "id");
CREATE INDEX "api_calls_transaction_id_id_idx" ON "crm"."api_calls" ("tenant_id", "transaction_id", "id");
ALTER TABLE "crm"."api_calls" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."api_calls"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT ("tenant_id", "id", "version", "created_at", "created_by", "created_by_id", "updated_at", "updated_by", "updated_by_id", "archived_at", "deleted_at", "method", "endpoint", "status", "duration", "duration_class", "occurred_at", "user_id", "client", "request_id", "ip", "sealed"), UPDATE ("tenant_id", "id", "version", "created_at", "created_by", "created_by_id", "updated_at", "updated_by", "updated_by_id", "archived_at", "deleted_at", "method", "endpoint", "status", "duration", "duration_class", "occurred_at", "user_id", "client", "request_id", "ip", "sealed"), DELETE ON "crm"."api_calls" TO "crm_app";
GRANT SELECT, DELETE ON "crm"."api_calls" TO "crm_search";
CREATE TABLE "crm"."api_calls_default" PARTITION OF "crm"."api_calls" DEFAULT;
ALTER TABLE "crm"."api_calls_default" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE TABLE "crm"."feed_consumers" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(100) COLLATE "C" NOT NULL,
    "position" varchar(48) COLLATE "C",
    "claimed_until" timestamptz,
    "claim_token" uuid,
    CONSTRAINT "feed_consumers_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "feed_consumers_version_check" CHECK ("version" >= 1),
    CONSTRAINT "feed_consumers_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "feed_consumers_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous'))
);
CREATE UNIQUE INDEX "feed_consumers_name_key" ON "crm"."feed_consumers" ("tenant_id", "name") WHERE "deleted_at" IS NULL;
ALTER TABLE "crm"."feed_consumers" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."feed_consumers"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."feed_consumers" TO "crm_app";

CREATE TABLE "crm"."webhook_subscriptions" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "name" varchar(100) COLLATE "C" NOT NULL,
    "url" varchar(2048) COLLATE "C" NOT NULL,
    "objects" text[] COLLATE "C" NOT NULL,
    "events" text[] COLLATE "C" NOT NULL,
    "personal_values" varchar(50) COLLATE "C" NOT NULL,
    "secret" varchar(100) COLLATE "C",
    "previous_secret" varchar(100) COLLATE "C",
    "is_active" boolean NOT NULL,
    "active_since" timestamptz,
    "name_folded" text COLLATE "C" NOT NULL,
    "sealed" bytea,
    CONSTRAINT "webhook_subscriptions_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "webhook_subscriptions_version_check" CHECK ("version" >= 1),
    CONSTRAINT "webhook_subscriptions_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "webhook_subscriptions_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "webhook_subscriptions_personal_values_check" CHECK ("personal_values" IN ('keep', 'mask', 'drop'))
);
CREATE UNIQUE INDEX "webhook_subscriptions_name_folded_key" ON "crm"."webhook_subscriptions" ("tenant_id", "name_folded") WHERE "deleted_at" IS NULL;
CREATE INDEX "webhook_subscriptions_created_at_id_idx" ON "crm"."webhook_subscriptions" ("tenant_id", "created_at", "id");
CREATE INDEX "webhook_subscriptions_updated_at_id_idx" ON "crm"."webhook_subscriptions" ("tenant_id", "updated_at", "id");
CREATE INDEX "webhook_subscriptions_objects_idx" ON "crm"."webhook_subscriptions" USING gin ("objects");
CREATE INDEX "webhook_subscriptions_events_idx" ON "crm"."webhook_subscriptions" USING gin ("events");
ALTER TABLE "crm"."webhook_subscriptions" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."webhook_subscriptions"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."webhook_subscriptions" TO "crm_app";
CREATE POLICY "search" ON "crm"."webhook_subscriptions" FOR SELECT TO "crm_search" USING (true);
GRANT SELECT ("tenant_id", "id", "deleted_at", "objects", "events") ON "crm"."webhook_subscriptions" TO "crm_search";

CREATE TABLE "crm"."webhook_deliveries" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "subscription_id" uuid NOT NULL,
    "event_id" uuid NOT NULL,
    "status" varchar(50) COLLATE "C" NOT NULL,
    "queued_at" timestamptz NOT NULL,
    "next_attempt_at" timestamptz NOT NULL,
    "attempts" bigint NOT NULL,
    "claimed_until" timestamptz,
    "claim_token" uuid,
    "last_status" bigint,
    "last_error" varchar(50) COLLATE "C",
    "delivered_at" timestamptz,
    CONSTRAINT "webhook_deliveries_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "webhook_deliveries_version_check" CHECK ("version" >= 1),
    CONSTRAINT "webhook_deliveries_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "webhook_deliveries_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "webhook_deliveries_status_check" CHECK ("status" IN ('pending', 'delivered', 'dead')),
    CONSTRAINT "webhook_deliveries_attempts_check" CHECK ("attempts" BETWEEN 0 AND 2147483647),
    CONSTRAINT "webhook_deliveries_last_status_check" CHECK ("last_status" BETWEEN 0 AND 2147483647)
);
CREATE UNIQUE INDEX "webhook_deliveries_event_id_subscription_id_key" ON "crm"."webhook_deliveries" ("tenant_id", "event_id", "subscription_id") WHERE "deleted_at" IS NULL;
CREATE INDEX "webhook_deliveries_status_next_attempt_at_id_idx" ON "crm"."webhook_deliveries" ("tenant_id", "status", "next_attempt_at", "id");
CREATE INDEX "webhook_deliveries_subscription_id_status_9f06ad269d" ON "crm"."webhook_deliveries" ("tenant_id", "subscription_id", "status", "queued_at", "id");
ALTER TABLE "crm"."webhook_deliveries" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."webhook_deliveries"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."webhook_deliveries" TO "crm_app";

CREATE TABLE "crm"."data_keys" (
    "tenant_id" uuid NOT NULL,
    "id" uuid NOT NULL,
    "version" bigint NOT NULL,
    "created_at" timestamptz NOT NULL,
    "created_by" varchar(50) COLLATE "C" NOT NULL,
    "created_by_id" uuid,
    "updated_at" timestamptz NOT NULL,
    "updated_by" varchar(50) COLLATE "C" NOT NULL,
    "updated_by_id" uuid,
    "archived_at" timestamptz,
    "deleted_at" timestamptz,
    "purpose" varchar(50) COLLATE "C" NOT NULL,
    "number" bigint NOT NULL,
    "provider_key" varchar(255) COLLATE "C" NOT NULL,
    "wrapped" varchar(4000) COLLATE "C" NOT NULL,
    "retired_at" timestamptz,
    "sealed" bytea,
    CONSTRAINT "data_keys_pkey" PRIMARY KEY ("tenant_id", "id"),
    CONSTRAINT "data_keys_version_check" CHECK ("version" >= 1),
    CONSTRAINT "data_keys_created_by_check" CHECK ("created_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "data_keys_updated_by_check" CHECK ("updated_by" IN ('user', 'system', 'api_client', 'import', 'anonymous')),
    CONSTRAINT "data_keys_purpose_check" CHECK ("purpose" IN ('data', 'tokens')),
    CONSTRAINT "data_keys_number_check" CHECK ("number" >= 1)
);
CREATE UNIQUE INDEX "data_keys_purpose_number_key" ON "crm"."data_keys" ("tenant_id", "purpose", "number") WHERE "deleted_at" IS NULL;
ALTER TABLE "crm"."data_keys" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "tenant_isolation" ON "crm"."data_keys"
    USING ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid)
    WITH CHECK ("tenant_id" = NULLIF(current_setting('crm.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON "crm"."data_keys" TO "crm_app";

ALTER TABLE "crm"."users" ADD CONSTRAINT "users_manager_id_fkey"
    FOREIGN KEY ("tenant_id", "manager_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."teams" ADD CONSTRAINT "teams_parent_team_id_fkey"
    FOREIGN KEY ("tenant_id", "parent_team_id") REFERENCES "crm"."teams" ("tenant_id", "id");
ALTER TABLE "crm"."teams" ADD CONSTRAINT "teams_manager_id_fkey"
    FOREIGN KEY ("tenant_id", "manager_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."team_members" ADD CONSTRAINT "team_members_team_id_fkey"
    FOREIGN KEY ("tenant_id", "team_id") REFERENCES "crm"."teams" ("tenant_id", "id");
ALTER TABLE "crm"."team_members" ADD CONSTRAINT "team_members_user_id_fkey"
    FOREIGN KEY ("tenant_id", "user_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."territories" ADD CONSTRAINT "territories_parent_territory_id_fkey"
    FOREIGN KEY ("tenant_id", "parent_territory_id") REFERENCES "crm"."territories" ("tenant_id", "id");
ALTER TABLE "crm"."territories" ADD CONSTRAINT "territories_manager_id_fkey"
    FOREIGN KEY ("tenant_id", "manager_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."accounts" ADD CONSTRAINT "accounts_parent_account_id_fkey"
    FOREIGN KEY ("tenant_id", "parent_account_id") REFERENCES "crm"."accounts" ("tenant_id", "id");
ALTER TABLE "crm"."accounts" ADD CONSTRAINT "accounts_territory_id_fkey"
    FOREIGN KEY ("tenant_id", "territory_id") REFERENCES "crm"."territories" ("tenant_id", "id");
ALTER TABLE "crm"."accounts" ADD CONSTRAINT "accounts_owner_id_fkey"
    FOREIGN KEY ("tenant_id", "owner_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."accounts" ADD CONSTRAINT "accounts_account_manager_id_fkey"
    FOREIGN KEY ("tenant_id", "account_manager_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."contacts" ADD CONSTRAINT "contacts_account_id_fkey"
    FOREIGN KEY ("tenant_id", "account_id") REFERENCES "crm"."accounts" ("tenant_id", "id");
ALTER TABLE "crm"."contacts" ADD CONSTRAINT "contacts_owner_id_fkey"
    FOREIGN KEY ("tenant_id", "owner_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."contact_relationships" ADD CONSTRAINT "contact_relationships_contact_id_fkey"
    FOREIGN KEY ("tenant_id", "contact_id") REFERENCES "crm"."contacts" ("tenant_id", "id");
ALTER TABLE "crm"."contact_relationships" ADD CONSTRAINT "contact_relationships_related_contact_id_fkey"
    FOREIGN KEY ("tenant_id", "related_contact_id") REFERENCES "crm"."contacts" ("tenant_id", "id");
ALTER TABLE "crm"."contact_affiliations" ADD CONSTRAINT "contact_affiliations_contact_id_fkey"
    FOREIGN KEY ("tenant_id", "contact_id") REFERENCES "crm"."contacts" ("tenant_id", "id");
ALTER TABLE "crm"."contact_affiliations" ADD CONSTRAINT "contact_affiliations_account_id_fkey"
    FOREIGN KEY ("tenant_id", "account_id") REFERENCES "crm"."accounts" ("tenant_id", "id");
ALTER TABLE "crm"."campaigns" ADD CONSTRAINT "campaigns_parent_campaign_id_fkey"
    FOREIGN KEY ("tenant_id", "parent_campaign_id") REFERENCES "crm"."campaigns" ("tenant_id", "id");
ALTER TABLE "crm"."campaigns" ADD CONSTRAINT "campaigns_owner_id_fkey"
    FOREIGN KEY ("tenant_id", "owner_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."pipeline_stages" ADD CONSTRAINT "pipeline_stages_pipeline_id_fkey"
    FOREIGN KEY ("tenant_id", "pipeline_id") REFERENCES "crm"."pipelines" ("tenant_id", "id");
ALTER TABLE "crm"."product_prices" ADD CONSTRAINT "product_prices_product_id_fkey"
    FOREIGN KEY ("tenant_id", "product_id") REFERENCES "crm"."products" ("tenant_id", "id");
ALTER TABLE "crm"."deals" ADD CONSTRAINT "deals_pipeline_id_fkey"
    FOREIGN KEY ("tenant_id", "pipeline_id") REFERENCES "crm"."pipelines" ("tenant_id", "id");
ALTER TABLE "crm"."deals" ADD CONSTRAINT "deals_stage_id_fkey"
    FOREIGN KEY ("tenant_id", "stage_id") REFERENCES "crm"."pipeline_stages" ("tenant_id", "id");
ALTER TABLE "crm"."deals" ADD CONSTRAINT "deals_campaign_id_fkey"
    FOREIGN KEY ("tenant_id", "campaign_id") REFERENCES "crm"."campaigns" ("tenant_id", "id");
ALTER TABLE "crm"."deals" ADD CONSTRAINT "deals_account_id_fkey"
    FOREIGN KEY ("tenant_id", "account_id") REFERENCES "crm"."accounts" ("tenant_id", "id");
ALTER TABLE "crm"."deals" ADD CONSTRAINT "deals_contact_id_fkey"
    FOREIGN KEY ("tenant_id", "contact_id") REFERENCES "crm"."contacts" ("tenant_id", "id");
ALTER TABLE "crm"."deals" ADD CONSTRAINT "deals_owner_id_fkey"
    FOREIGN KEY ("tenant_id", "owner_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."deals" ADD CONSTRAINT "deals_team_id_fkey"
    FOREIGN KEY ("tenant_id", "team_id") REFERENCES "crm"."teams" ("tenant_id", "id");
ALTER TABLE "crm"."deal_stage_history" ADD CONSTRAINT "deal_stage_history_deal_id_fkey"
    FOREIGN KEY ("tenant_id", "deal_id") REFERENCES "crm"."deals" ("tenant_id", "id");
ALTER TABLE "crm"."deal_products" ADD CONSTRAINT "deal_products_deal_id_fkey"
    FOREIGN KEY ("tenant_id", "deal_id") REFERENCES "crm"."deals" ("tenant_id", "id");
ALTER TABLE "crm"."deal_products" ADD CONSTRAINT "deal_products_product_id_fkey"
    FOREIGN KEY ("tenant_id", "product_id") REFERENCES "crm"."products" ("tenant_id", "id");
ALTER TABLE "crm"."pipeline_analytics" ADD CONSTRAINT "pipeline_analytics_pipeline_id_fkey"
    FOREIGN KEY ("tenant_id", "pipeline_id") REFERENCES "crm"."pipelines" ("tenant_id", "id");
ALTER TABLE "crm"."deal_states" ADD CONSTRAINT "deal_states_deal_id_fkey"
    FOREIGN KEY ("tenant_id", "deal_id") REFERENCES "crm"."deals" ("tenant_id", "id");
ALTER TABLE "crm"."deal_forecasts" ADD CONSTRAINT "deal_forecasts_deal_id_fkey"
    FOREIGN KEY ("tenant_id", "deal_id") REFERENCES "crm"."deals" ("tenant_id", "id");
ALTER TABLE "crm"."forecast_adjustments" ADD CONSTRAINT "forecast_adjustments_user_id_fkey"
    FOREIGN KEY ("tenant_id", "user_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."forecast_adjustments" ADD CONSTRAINT "forecast_adjustments_team_id_fkey"
    FOREIGN KEY ("tenant_id", "team_id") REFERENCES "crm"."teams" ("tenant_id", "id");
ALTER TABLE "crm"."forecast_adjustments" ADD CONSTRAINT "forecast_adjustments_territory_id_fkey"
    FOREIGN KEY ("tenant_id", "territory_id") REFERENCES "crm"."territories" ("tenant_id", "id");
ALTER TABLE "crm"."quotas" ADD CONSTRAINT "quotas_user_id_fkey"
    FOREIGN KEY ("tenant_id", "user_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."quotas" ADD CONSTRAINT "quotas_team_id_fkey"
    FOREIGN KEY ("tenant_id", "team_id") REFERENCES "crm"."teams" ("tenant_id", "id");
ALTER TABLE "crm"."quotas" ADD CONSTRAINT "quotas_territory_id_fkey"
    FOREIGN KEY ("tenant_id", "territory_id") REFERENCES "crm"."territories" ("tenant_id", "id");
ALTER TABLE "crm"."stage_approvals" ADD CONSTRAINT "stage_approvals_deal_id_fkey"
    FOREIGN KEY ("tenant_id", "deal_id") REFERENCES "crm"."deals" ("tenant_id", "id");
ALTER TABLE "crm"."stage_approvals" ADD CONSTRAINT "stage_approvals_stage_id_fkey"
    FOREIGN KEY ("tenant_id", "stage_id") REFERENCES "crm"."pipeline_stages" ("tenant_id", "id");
ALTER TABLE "crm"."stage_approvals" ADD CONSTRAINT "stage_approvals_requested_by_id_fkey"
    FOREIGN KEY ("tenant_id", "requested_by_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."stage_approvals" ADD CONSTRAINT "stage_approvals_decided_by_id_fkey"
    FOREIGN KEY ("tenant_id", "decided_by_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."deal_contacts" ADD CONSTRAINT "deal_contacts_deal_id_fkey"
    FOREIGN KEY ("tenant_id", "deal_id") REFERENCES "crm"."deals" ("tenant_id", "id");
ALTER TABLE "crm"."deal_contacts" ADD CONSTRAINT "deal_contacts_contact_id_fkey"
    FOREIGN KEY ("tenant_id", "contact_id") REFERENCES "crm"."contacts" ("tenant_id", "id");
ALTER TABLE "crm"."deal_competitors" ADD CONSTRAINT "deal_competitors_deal_id_fkey"
    FOREIGN KEY ("tenant_id", "deal_id") REFERENCES "crm"."deals" ("tenant_id", "id");
ALTER TABLE "crm"."deal_competitors" ADD CONSTRAINT "deal_competitors_account_id_fkey"
    FOREIGN KEY ("tenant_id", "account_id") REFERENCES "crm"."accounts" ("tenant_id", "id");
ALTER TABLE "crm"."pipeline_automation_rules" ADD CONSTRAINT "pipeline_automation_rules_pipeline_id_fkey"
    FOREIGN KEY ("tenant_id", "pipeline_id") REFERENCES "crm"."pipelines" ("tenant_id", "id");
ALTER TABLE "crm"."pipeline_automation_rules" ADD CONSTRAINT "pipeline_automation_rules_stage_id_fkey"
    FOREIGN KEY ("tenant_id", "stage_id") REFERENCES "crm"."pipeline_stages" ("tenant_id", "id");
ALTER TABLE "crm"."automation_executions" ADD CONSTRAINT "automation_executions_rule_id_fkey"
    FOREIGN KEY ("tenant_id", "rule_id") REFERENCES "crm"."pipeline_automation_rules" ("tenant_id", "id");
ALTER TABLE "crm"."automation_executions" ADD CONSTRAINT "automation_executions_deal_id_fkey"
    FOREIGN KEY ("tenant_id", "deal_id") REFERENCES "crm"."deals" ("tenant_id", "id");
ALTER TABLE "crm"."leads" ADD CONSTRAINT "leads_campaign_id_fkey"
    FOREIGN KEY ("tenant_id", "campaign_id") REFERENCES "crm"."campaigns" ("tenant_id", "id");
ALTER TABLE "crm"."leads" ADD CONSTRAINT "leads_owner_id_fkey"
    FOREIGN KEY ("tenant_id", "owner_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."leads" ADD CONSTRAINT "leads_converted_contact_id_fkey"
    FOREIGN KEY ("tenant_id", "converted_contact_id") REFERENCES "crm"."contacts" ("tenant_id", "id");
ALTER TABLE "crm"."leads" ADD CONSTRAINT "leads_converted_account_id_fkey"
    FOREIGN KEY ("tenant_id", "converted_account_id") REFERENCES "crm"."accounts" ("tenant_id", "id");
ALTER TABLE "crm"."leads" ADD CONSTRAINT "leads_converted_deal_id_fkey"
    FOREIGN KEY ("tenant_id", "converted_deal_id") REFERENCES "crm"."deals" ("tenant_id", "id");
ALTER TABLE "crm"."lead_conversions" ADD CONSTRAINT "lead_conversions_lead_id_fkey"
    FOREIGN KEY ("tenant_id", "lead_id") REFERENCES "crm"."leads" ("tenant_id", "id");
ALTER TABLE "crm"."lead_assignment_rules" ADD CONSTRAINT "lead_assignment_rules_user_id_fkey"
    FOREIGN KEY ("tenant_id", "user_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."lead_assignment_rules" ADD CONSTRAINT "lead_assignment_rules_team_id_fkey"
    FOREIGN KEY ("tenant_id", "team_id") REFERENCES "crm"."teams" ("tenant_id", "id");
ALTER TABLE "crm"."lead_assignees" ADD CONSTRAINT "lead_assignees_rule_id_fkey"
    FOREIGN KEY ("tenant_id", "rule_id") REFERENCES "crm"."lead_assignment_rules" ("tenant_id", "id");
ALTER TABLE "crm"."lead_assignees" ADD CONSTRAINT "lead_assignees_user_id_fkey"
    FOREIGN KEY ("tenant_id", "user_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."campaign_members" ADD CONSTRAINT "campaign_members_campaign_id_fkey"
    FOREIGN KEY ("tenant_id", "campaign_id") REFERENCES "crm"."campaigns" ("tenant_id", "id");
ALTER TABLE "crm"."campaign_members" ADD CONSTRAINT "campaign_members_lead_id_fkey"
    FOREIGN KEY ("tenant_id", "lead_id") REFERENCES "crm"."leads" ("tenant_id", "id");
ALTER TABLE "crm"."campaign_members" ADD CONSTRAINT "campaign_members_contact_id_fkey"
    FOREIGN KEY ("tenant_id", "contact_id") REFERENCES "crm"."contacts" ("tenant_id", "id");
ALTER TABLE "crm"."lead_scoring_rules" ADD CONSTRAINT "lead_scoring_rules_rule_set_id_fkey"
    FOREIGN KEY ("tenant_id", "rule_set_id") REFERENCES "crm"."lead_scoring_rule_sets" ("tenant_id", "id");
ALTER TABLE "crm"."lead_scoring_history" ADD CONSTRAINT "lead_scoring_history_lead_id_fkey"
    FOREIGN KEY ("tenant_id", "lead_id") REFERENCES "crm"."leads" ("tenant_id", "id");
ALTER TABLE "crm"."consents" ADD CONSTRAINT "consents_contact_id_fkey"
    FOREIGN KEY ("tenant_id", "contact_id") REFERENCES "crm"."contacts" ("tenant_id", "id");
ALTER TABLE "crm"."consents" ADD CONSTRAINT "consents_lead_id_fkey"
    FOREIGN KEY ("tenant_id", "lead_id") REFERENCES "crm"."leads" ("tenant_id", "id");
ALTER TABLE "crm"."processing_activities" ADD CONSTRAINT "processing_activities_retention_policy_id_fkey"
    FOREIGN KEY ("tenant_id", "retention_policy_id") REFERENCES "crm"."retention_policies" ("tenant_id", "id");
ALTER TABLE "crm"."activity_series" ADD CONSTRAINT "activity_series_account_id_fkey"
    FOREIGN KEY ("tenant_id", "account_id") REFERENCES "crm"."accounts" ("tenant_id", "id");
ALTER TABLE "crm"."activity_series" ADD CONSTRAINT "activity_series_contact_id_fkey"
    FOREIGN KEY ("tenant_id", "contact_id") REFERENCES "crm"."contacts" ("tenant_id", "id");
ALTER TABLE "crm"."activity_series" ADD CONSTRAINT "activity_series_deal_id_fkey"
    FOREIGN KEY ("tenant_id", "deal_id") REFERENCES "crm"."deals" ("tenant_id", "id");
ALTER TABLE "crm"."activity_series" ADD CONSTRAINT "activity_series_lead_id_fkey"
    FOREIGN KEY ("tenant_id", "lead_id") REFERENCES "crm"."leads" ("tenant_id", "id");
ALTER TABLE "crm"."activity_series" ADD CONSTRAINT "activity_series_owner_id_fkey"
    FOREIGN KEY ("tenant_id", "owner_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."activity_series" ADD CONSTRAINT "activity_series_assigned_to_fkey"
    FOREIGN KEY ("tenant_id", "assigned_to") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."activities" ADD CONSTRAINT "activities_account_id_fkey"
    FOREIGN KEY ("tenant_id", "account_id") REFERENCES "crm"."accounts" ("tenant_id", "id");
ALTER TABLE "crm"."activities" ADD CONSTRAINT "activities_contact_id_fkey"
    FOREIGN KEY ("tenant_id", "contact_id") REFERENCES "crm"."contacts" ("tenant_id", "id");
ALTER TABLE "crm"."activities" ADD CONSTRAINT "activities_deal_id_fkey"
    FOREIGN KEY ("tenant_id", "deal_id") REFERENCES "crm"."deals" ("tenant_id", "id");
ALTER TABLE "crm"."activities" ADD CONSTRAINT "activities_lead_id_fkey"
    FOREIGN KEY ("tenant_id", "lead_id") REFERENCES "crm"."leads" ("tenant_id", "id");
ALTER TABLE "crm"."activities" ADD CONSTRAINT "activities_owner_id_fkey"
    FOREIGN KEY ("tenant_id", "owner_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."activities" ADD CONSTRAINT "activities_assigned_to_fkey"
    FOREIGN KEY ("tenant_id", "assigned_to") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."activities" ADD CONSTRAINT "activities_follow_up_of_fkey"
    FOREIGN KEY ("tenant_id", "follow_up_of") REFERENCES "crm"."activities" ("tenant_id", "id");
ALTER TABLE "crm"."activities" ADD CONSTRAINT "activities_series_id_fkey"
    FOREIGN KEY ("tenant_id", "series_id") REFERENCES "crm"."activity_series" ("tenant_id", "id");
ALTER TABLE "crm"."comments" ADD CONSTRAINT "comments_reply_to_id_fkey"
    FOREIGN KEY ("tenant_id", "reply_to_id") REFERENCES "crm"."comments" ("tenant_id", "id");
ALTER TABLE "crm"."mentions" ADD CONSTRAINT "mentions_comment_id_fkey"
    FOREIGN KEY ("tenant_id", "comment_id") REFERENCES "crm"."comments" ("tenant_id", "id");
ALTER TABLE "crm"."mentions" ADD CONSTRAINT "mentions_user_id_fkey"
    FOREIGN KEY ("tenant_id", "user_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."followers" ADD CONSTRAINT "followers_user_id_fkey"
    FOREIGN KEY ("tenant_id", "user_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."merge_links" ADD CONSTRAINT "merge_links_merge_id_fkey"
    FOREIGN KEY ("tenant_id", "merge_id") REFERENCES "crm"."merges" ("tenant_id", "id");
ALTER TABLE "crm"."activity_participants" ADD CONSTRAINT "activity_participants_activity_id_fkey"
    FOREIGN KEY ("tenant_id", "activity_id") REFERENCES "crm"."activities" ("tenant_id", "id");
ALTER TABLE "crm"."activity_participants" ADD CONSTRAINT "activity_participants_user_id_fkey"
    FOREIGN KEY ("tenant_id", "user_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."activity_participants" ADD CONSTRAINT "activity_participants_contact_id_fkey"
    FOREIGN KEY ("tenant_id", "contact_id") REFERENCES "crm"."contacts" ("tenant_id", "id");
ALTER TABLE "crm"."activity_templates" ADD CONSTRAINT "activity_templates_owner_id_fkey"
    FOREIGN KEY ("tenant_id", "owner_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."activity_reminders" ADD CONSTRAINT "activity_reminders_activity_id_fkey"
    FOREIGN KEY ("tenant_id", "activity_id") REFERENCES "crm"."activities" ("tenant_id", "id");
ALTER TABLE "crm"."activity_reminders" ADD CONSTRAINT "activity_reminders_recipient_id_fkey"
    FOREIGN KEY ("tenant_id", "recipient_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."import_rows" ADD CONSTRAINT "import_rows_job_id_fkey"
    FOREIGN KEY ("tenant_id", "job_id") REFERENCES "crm"."import_jobs" ("tenant_id", "id");
ALTER TABLE "crm"."custom_relationships" ADD CONSTRAINT "custom_relationships_from_object_id_fkey"
    FOREIGN KEY ("tenant_id", "from_object_id") REFERENCES "crm"."custom_objects" ("tenant_id", "id");
ALTER TABLE "crm"."custom_relationships" ADD CONSTRAINT "custom_relationships_to_object_id_fkey"
    FOREIGN KEY ("tenant_id", "to_object_id") REFERENCES "crm"."custom_objects" ("tenant_id", "id");
ALTER TABLE "crm"."custom_field_definitions" ADD CONSTRAINT "custom_field_definitions_object_id_fkey"
    FOREIGN KEY ("tenant_id", "object_id") REFERENCES "crm"."custom_objects" ("tenant_id", "id");
ALTER TABLE "crm"."custom_field_definitions" ADD CONSTRAINT "custom_field_definitions_relationship_id_fkey"
    FOREIGN KEY ("tenant_id", "relationship_id") REFERENCES "crm"."custom_relationships" ("tenant_id", "id");
ALTER TABLE "crm"."custom_field_definitions" ADD CONSTRAINT "custom_field_definitions_controlling_field_id_fkey"
    FOREIGN KEY ("tenant_id", "controlling_field_id") REFERENCES "crm"."custom_field_definitions" ("tenant_id", "id");
ALTER TABLE "crm"."custom_field_options" ADD CONSTRAINT "custom_field_options_field_id_fkey"
    FOREIGN KEY ("tenant_id", "field_id") REFERENCES "crm"."custom_field_definitions" ("tenant_id", "id");
ALTER TABLE "crm"."custom_field_rules" ADD CONSTRAINT "custom_field_rules_object_id_fkey"
    FOREIGN KEY ("tenant_id", "object_id") REFERENCES "crm"."custom_objects" ("tenant_id", "id");
ALTER TABLE "crm"."custom_records" ADD CONSTRAINT "custom_records_object_id_fkey"
    FOREIGN KEY ("tenant_id", "object_id") REFERENCES "crm"."custom_objects" ("tenant_id", "id");
ALTER TABLE "crm"."custom_records" ADD CONSTRAINT "custom_records_owner_id_fkey"
    FOREIGN KEY ("tenant_id", "owner_id") REFERENCES "crm"."users" ("tenant_id", "id");
ALTER TABLE "crm"."custom_links" ADD CONSTRAINT "custom_links_relationship_id_fkey"
    FOREIGN KEY ("tenant_id", "relationship_id") REFERENCES "crm"."custom_relationships" ("tenant_id", "id");
ALTER TABLE "crm"."custom_field_values" ADD CONSTRAINT "custom_field_values_field_id_fkey"
    FOREIGN KEY ("tenant_id", "field_id") REFERENCES "crm"."custom_field_definitions" ("tenant_id", "id");
ALTER TABLE "crm"."custom_field_usages" ADD CONSTRAINT "custom_field_usages_field_id_fkey"
    FOREIGN KEY ("tenant_id", "field_id") REFERENCES "crm"."custom_field_definitions" ("tenant_id", "id");
ALTER TABLE "crm"."webhook_deliveries" ADD CONSTRAINT "webhook_deliveries_subscription_id_fkey"
    FOREIGN KEY ("tenant_id", "subscription_id") REFERENCES "crm"."webhook_subscriptions" ("tenant_id", "id");
-- Functions are everybody's until that is taken back.
REVOKE ALL ON FUNCTION "crm".fold_case FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "crm".fold_case TO "crm_app";
REVOKE ALL ON FUNCTION "crm".search_text FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "crm".search_text TO "crm_app";
REVOKE ALL ON FUNCTION "crm".search FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "crm".search TO "crm_app";
REVOKE ALL ON FUNCTION "crm".tagged FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "crm".tagged TO "crm_app";
REVOKE ALL ON FUNCTION "crm".refuse FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "crm".refuse TO "crm_app";
REVOKE ALL ON FUNCTION "crm".referred FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "crm".referred TO "crm_app";
REVOKE ALL ON FUNCTION "crm".take_entries FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "crm".take_entries TO "crm_app";
GRANT EXECUTE ON FUNCTION "crm".search_text, "crm".refuse TO "crm_search";

-- To give a function away one must belong to the role that gets it, and that role must be
-- allowed to make functions: both for as long as this takes.
DO $do$
DECLARE
    is_member boolean := pg_has_role('crm_search', 'USAGE');
BEGIN
    IF NOT is_member THEN
        GRANT "crm_search" TO CURRENT_USER;
    END IF;
    GRANT CREATE ON SCHEMA "crm" TO "crm_search";
    ALTER FUNCTION "crm".search OWNER TO "crm_search";
    ALTER FUNCTION "crm".tagged OWNER TO "crm_search";
    ALTER FUNCTION "crm".take_entries OWNER TO "crm_search";
    GRANT EXECUTE ON FUNCTION "crm".search, "crm".tagged, "crm".take_entries TO CURRENT_USER;
    REVOKE CREATE ON SCHEMA "crm" FROM "crm_search";
    IF NOT is_member THEN
        REVOKE "crm_search" FROM CURRENT_USER;
    END IF;
END
$do$;
