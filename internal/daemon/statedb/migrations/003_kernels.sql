-- A kernel has a name of its own: two may be of one release.
CREATE TABLE kernels_by_name (
	name           TEXT PRIMARY KEY,
	release        TEXT NOT NULL,
	version        TEXT NOT NULL,
	format         TEXT NOT NULL,
	digest         TEXT NOT NULL,
	image_digest   TEXT NOT NULL,
	modules_digest TEXT NOT NULL,
	path           TEXT NOT NULL,
	modules_disk   TEXT NOT NULL,
	modules_dir    TEXT NOT NULL,
	modules        INTEGER NOT NULL,
	bytes          INTEGER NOT NULL,
	source         TEXT NOT NULL,
	created_at     INTEGER NOT NULL,
	origin         TEXT NOT NULL, -- vm.Origin as JSON
	options        TEXT NOT NULL  -- a list of vm.KernelOption as JSON
) STRICT;

-- Until now all kernels were Debian's, unpacked from a bzImage.
INSERT INTO kernels_by_name SELECT release, release, version, 'bzImage', digest, '', '', path, modules_disk, modules_dir, 0, bytes, source, created_at,
	'{"Kind":"debian","Package":"linux-image-' || release || '"}', '[]' FROM kernels;
DROP TABLE kernels;
ALTER TABLE kernels_by_name RENAME TO kernels;

-- What a VM that runs was started with; '' and 0 while it is stopped.
ALTER TABLE vms ADD COLUMN boot_kernel TEXT NOT NULL DEFAULT '';
ALTER TABLE vms ADD COLUMN boot_vcpus INTEGER NOT NULL DEFAULT 0;
ALTER TABLE vms ADD COLUMN boot_memory INTEGER NOT NULL DEFAULT 0;
UPDATE vms SET boot_kernel = kernel, boot_vcpus = vcpus, boot_memory = memory WHERE started_at <> 0;

-- The newest index of each suite of Debian's that was seen: an older one is refused.
CREATE TABLE archive_dates (
	suite TEXT PRIMARY KEY,
	date  INTEGER NOT NULL -- Unix seconds
) STRICT;
