-- What everybody could do, nobody has to: the functions of triggers are called by triggers alone.
REVOKE ALL ON FUNCTION :schema.:app_refuse_change FROM PUBLIC;
