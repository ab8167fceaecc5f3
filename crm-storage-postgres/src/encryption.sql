-- Refuses a row with personal values of a tenant that has keys: whoever wrote it did not seal them. Its
-- arguments: the column that tells the tenant; the name of the object.
CREATE OR REPLACE FUNCTION {schema}.refuse_unencrypted() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    tenant uuid;
BEGIN
    IF TG_ARGV[0] = 'id' THEN
        tenant := NEW.id;
    ELSE
        tenant := NEW.tenant_id;
    END IF;
    IF EXISTS (SELECT FROM {schema}.{keys} AS k WHERE k.tenant_id = tenant) THEN
        RAISE EXCEPTION 'personal values of a % are not encrypted', TG_ARGV[1]
            USING ERRCODE = '{code}', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                HINT = 'Write it through the storage that encrypts.';
    END IF;
    RETURN NEW;
END
$function$;

