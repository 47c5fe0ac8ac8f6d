package statedb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"banger/internal/base/errs"
	"banger/internal/vm"
)

// PutKernel adds a kernel, or replaces the one of its name.
func (db *DB) PutKernel(ctx context.Context, k vm.Kernel) error {
	origin, err := json.Marshal(k.Origin)
	if err != nil {
		return err
	}
	options, err := json.Marshal(k.Options)
	if err != nil {
		return err
	}
	_, err = db.sql.ExecContext(ctx, `INSERT OR REPLACE INTO kernels
		(name, release, version, format, digest, image_digest, modules_digest, path, modules_disk, modules_dir, modules, bytes, source, created_at, origin, options)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		k.Name, k.Release, k.Version, k.Format, k.Digest, k.ImageDigest, k.ModulesDigest, k.Path, k.ModulesDisk, k.ModulesDir, k.Modules, k.Bytes, k.Source,
		nanos(k.CreatedAt), string(origin), string(options))
	return err
}

// Kernels returns all kernels, newest first.
func (db *DB) Kernels(ctx context.Context) ([]vm.Kernel, error) {
	return query(ctx, db, func(r *sql.Rows) (k vm.Kernel, err error) {
		var created int64
		var origin, options string
		if err := r.Scan(&k.Name, &k.Release, &k.Version, &k.Format, &k.Digest, &k.ImageDigest, &k.ModulesDigest, &k.Path, &k.ModulesDisk, &k.ModulesDir,
			&k.Modules, &k.Bytes, &k.Source, &created, &origin, &options); err != nil {
			return k, err
		}
		k.CreatedAt = timeOf(created)
		return k, errors.Join(json.Unmarshal([]byte(origin), &k.Origin), json.Unmarshal([]byte(options), &k.Options))
	}, `SELECT name, release, version, format, digest, image_digest, modules_digest, path, modules_disk, modules_dir, modules, bytes, source, created_at, origin, options
		FROM kernels ORDER BY created_at DESC, name DESC`)
}

// DeleteKernel removes the record of a kernel. While a VM is to boot it, or was
// started with it and runs, that is an errs.Conflict.
func (db *DB) DeleteKernel(ctx context.Context, name string) error {
	return db.tx(ctx, func(tx *sql.Tx) error {
		var user string
		err := tx.QueryRowContext(ctx, "SELECT name FROM vms WHERE kernel = ?1 OR boot_kernel = ?1 ORDER BY created_at LIMIT 1", name).Scan(&user)
		if err == nil {
			return errs.New(errs.Conflict, "the kernel %q is in use by the VM %q", name, user).
				WithHint("banger vm set %s --kernel ANOTHER (and restart it if it runs), or: banger vm delete %s", user, user)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		gone, err := tx.ExecContext(ctx, "DELETE FROM kernels WHERE name = ?", name)
		if err != nil {
			return err
		}
		if n, err := gone.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, errs.New(errs.NotFound, "there is no kernel %q", name).WithHint("banger kernel list"))
		}
		return nil
	})
}

// IndexDate returns the newest date of a suite's index that was seen, or the zero
// time.
func (db *DB) IndexDate(ctx context.Context, suite string) (time.Time, error) {
	var date int64
	err := db.sql.QueryRowContext(ctx, "SELECT date FROM archive_dates WHERE suite = ?", suite).Scan(&date)
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, nil
	}
	return time.Unix(date, 0).UTC(), err
}

// PutIndexDate records the date of a suite's index, to the second.
func (db *DB) PutIndexDate(ctx context.Context, suite string, date time.Time) error {
	_, err := db.sql.ExecContext(ctx, "INSERT OR REPLACE INTO archive_dates (suite, date) VALUES (?, ?)", suite, date.Unix())
	return err
}
