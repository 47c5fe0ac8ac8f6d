-- Which OCI image an image was made of, as JSON (vm.ImageOrigin), or ''; and its two
-- documents, from which it can be written again.
ALTER TABLE images ADD COLUMN origin TEXT NOT NULL DEFAULT '';
ALTER TABLE images ADD COLUMN manifest BLOB;
ALTER TABLE images ADD COLUMN oci_config BLOB;
