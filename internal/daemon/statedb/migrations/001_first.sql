-- Times are Unix nanoseconds, sizes bytes.
CREATE TABLE vms (
	id             TEXT PRIMARY KEY,
	name           TEXT NOT NULL UNIQUE,
	image          TEXT NOT NULL,
	image_digest   TEXT NOT NULL, -- '' while the VM is being created
	kernel         TEXT NOT NULL, -- likewise
	vcpus          INTEGER NOT NULL,
	memory         INTEGER NOT NULL,
	system_disk    INTEGER NOT NULL,
	work_disk      INTEGER NOT NULL,
	remove_on_stop INTEGER NOT NULL,
	state          TEXT NOT NULL,
	reason         TEXT NOT NULL,
	created_at     INTEGER NOT NULL,
	started_at     INTEGER NOT NULL -- 0 while stopped
) STRICT;

-- The journal: what is being done to a VM, and which step of it has begun.
CREATE TABLE operations (
	vm_id      TEXT PRIMARY KEY REFERENCES vms(id) ON DELETE CASCADE,
	action     TEXT NOT NULL,
	step       TEXT NOT NULL,
	started_at INTEGER NOT NULL
) STRICT;

CREATE TABLE images (
	name       TEXT PRIMARY KEY,
	digest     TEXT NOT NULL,
	path       TEXT NOT NULL,
	bytes      INTEGER NOT NULL,
	source     TEXT NOT NULL,
	created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE kernels (
	release      TEXT PRIMARY KEY,
	version      TEXT NOT NULL,
	digest       TEXT NOT NULL,
	path         TEXT NOT NULL,
	modules_disk TEXT NOT NULL,
	modules_dir  TEXT NOT NULL,
	bytes        INTEGER NOT NULL,
	source       TEXT NOT NULL,
	created_at   INTEGER NOT NULL
) STRICT;
