-- Refuses a commit: everything that its statement did is undone.
CREATE FUNCTION {schema}.refuse(code text, detail text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RAISE EXCEPTION 'refused' USING ERRCODE = code, DETAIL = detail;
END
$function$;
