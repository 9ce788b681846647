DROP VIEW v_packed;

DROP INDEX chunk_reach;
