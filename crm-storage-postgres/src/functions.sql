-- A text with its case folded, as the library folds it: what `str::to_lowercase` gives.
--
-- Texts of ASCII letters take the short way. The others need a locale that knows all letters: ICU
-- is there whatever the locale of the database. The letters in the second case are younger than
-- the ICU of many servers; what still may differ is a final sigma beside a letter that the server
-- does not know. Not STRICT: only so the planner can put the body in place of the call.
CREATE FUNCTION {schema}.fold_case(text) RETURNS text
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
CREATE FUNCTION {schema}.search_text(text) RETURNS text
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
CREATE FUNCTION {schema}.search(
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
    WHERE n.nspname = {schema_literal} AND c.relname IN (object_table, texts_table)
        AND c.relkind = 'r' AND a.attname = 'search_vector' AND a.atttypid = 'tsvector'::regtype;
    live := 't.deleted_at IS NULL' || CASE
        WHEN discriminator IS NULL THEN '' ELSE format(' AND t.%I = $4', discriminator) END;
    IF object_table = ANY(searched) THEN
        selects := selects || format(
            '(SELECT t.id, t.search_vector FROM %I.%I AS t WHERE t.tenant_id = $1 '
            'AND t.search_vector @@ $2 AND %s LIMIT 1000)',
            {schema_literal}, object_table, live);
    END IF;
    IF texts_table = ANY(searched) THEN
        selects := selects || format(
            '(SELECT t.id, x.search_vector FROM (SELECT o.record_id, o.search_vector FROM %I.%I AS o '
            'WHERE o.tenant_id = $1 AND o.object = $5 AND o.search_vector @@ $2 LIMIT 1000) AS x '
            'JOIN %I.%I AS t ON t.tenant_id = $1 AND t.id = x.record_id WHERE %s)',
            {schema_literal}, texts_table, {schema_literal}, object_table, live);
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
            left({schema}.search_text(left(query, 256)), 256), '\s+') AS word
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
CREATE FUNCTION {schema}.tagged(
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
        WHERE n.nspname = {schema_literal} AND c.relname = object_table
            AND c.relkind = 'r' AND a.attname = column_name AND a.atttypid = 'text[]'::regtype
    ) THEN
        RAISE EXCEPTION 'no such list of tags' USING ERRCODE = 'undefined_column';
    END IF;
    EXECUTE format(
        'SELECT coalesce(array_agg(hit.id), ''{}'') FROM ('
        'SELECT t.id FROM %I.%I AS t WHERE t.tenant_id = $1 AND t.%I %s $2%s LIMIT $3 + 1) AS hit',
        {schema_literal}, object_table, column_name, CASE WHEN match_all THEN '@>' ELSE '&&' END,
        CASE WHEN discriminator IS NULL THEN '' ELSE format(' AND t.%I = $4', discriminator) END)
        INTO ids USING tenant, tags, greatest(max_results, 0)::bigint, instance;
    RETURN CASE WHEN cardinality(ids) <= max_results THEN ids END;
END
$function$;
