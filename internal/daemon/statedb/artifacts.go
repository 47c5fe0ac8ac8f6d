package statedb

import (
	"context"
	"database/sql"

	"banger/internal/base/errs"
	"banger/internal/vm"
)

// PutImage adds an image, or points its name at another base disk.
func (db *DB) PutImage(ctx context.Context, i vm.Image) error {
	_, err := db.sql.ExecContext(ctx, `INSERT INTO images (name, digest, path, bytes, source, created_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, path = excluded.path, bytes = excluded.bytes, source = excluded.source, created_at = excluded.created_at`,
		i.Name, i.Digest, i.Path, i.Bytes, i.Source, nanos(i.CreatedAt))
	return err
}

// Images returns all images by name.
func (db *DB) Images(ctx context.Context) ([]vm.Image, error) {
	return query(ctx, db, func(r *sql.Rows) (i vm.Image, err error) {
		var created int64
		err = r.Scan(&i.Name, &i.Digest, &i.Path, &i.Bytes, &i.Source, &created)
		i.CreatedAt = timeOf(created)
		return i, err
	}, "SELECT name, digest, path, bytes, source, created_at FROM images ORDER BY name")
}

// DeleteImage removes the name of an image. While it is the last name of a base
// disk that a VM uses, that is an errs.Conflict; last says that no other name has
// the disk.
func (db *DB) DeleteImage(ctx context.Context, name string) (last bool, err error) {
	err = db.tx(ctx, func(tx *sql.Tx) error {
		var names int
		var user sql.NullString
		err := tx.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM images o WHERE o.digest = i.digest), (SELECT v.name FROM vms v WHERE v.image_digest = i.digest LIMIT 1)
			FROM images i WHERE i.name = ?`, name).Scan(&names, &user)
		if err == sql.ErrNoRows {
			return errs.New(errs.NotFound, "there is no image %q", name).WithHint("banger image list")
		}
		if err != nil {
			return err
		}
		last = names == 1
		if last && user.Valid {
			return errs.New(errs.Conflict, "the image %q is in use by the VM %q", name, user.String).WithHint("banger vm delete %s", user.String)
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM images WHERE name = ?", name)
		return err
	})
	return last, err
}

// DiskInUse says whether an image or a VM needs the base disk of a digest.
func (db *DB) DiskInUse(ctx context.Context, digest string) (used bool, err error) {
	err = db.sql.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM images WHERE digest = ?1) OR EXISTS (SELECT 1 FROM vms WHERE image_digest = ?1)", digest).Scan(&used)
	return used, err
}

// PutKernel adds a kernel, or replaces the one of its release.
func (db *DB) PutKernel(ctx context.Context, k vm.Kernel) error {
	_, err := db.sql.ExecContext(ctx, `INSERT OR REPLACE INTO kernels (release, version, digest, path, modules_disk, modules_dir, bytes, source, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, k.Release, k.Version, k.Digest, k.Path, k.ModulesDisk, k.ModulesDir, k.Bytes, k.Source, nanos(k.CreatedAt))
	return err
}

// Kernels returns all kernels, newest first.
func (db *DB) Kernels(ctx context.Context) ([]vm.Kernel, error) {
	return query(ctx, db, func(r *sql.Rows) (k vm.Kernel, err error) {
		var created int64
		err = r.Scan(&k.Release, &k.Version, &k.Digest, &k.Path, &k.ModulesDisk, &k.ModulesDir, &k.Bytes, &k.Source, &created)
		k.CreatedAt = timeOf(created)
		return k, err
	}, "SELECT release, version, digest, path, modules_disk, modules_dir, bytes, source, created_at FROM kernels ORDER BY created_at DESC, release DESC")
}
