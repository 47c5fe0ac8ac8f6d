package statedb

import (
	"context"
	"database/sql"
	"errors"

	"banger/internal/base/errs"
	"banger/internal/vm"
)

// PutImage adds an image, or points its name at another base disk.
func (db *DB) PutImage(ctx context.Context, i vm.Image) error {
	config, err := jsonText(i.Config)
	if err != nil {
		return err
	}
	origin, err := jsonText(i.Origin)
	if err != nil {
		return err
	}
	var docs vm.ImageDocuments
	if i.Documents != nil {
		docs = *i.Documents
	}
	_, err = db.sql.ExecContext(ctx, `INSERT OR REPLACE INTO images (name, digest, path, bytes, source, created_at, config, origin, manifest, oci_config)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		i.Name, i.Digest, i.Path, i.Bytes, i.Source, nanos(i.CreatedAt), config, origin, docs.Manifest, docs.Config)
	return err
}

// Images returns all images by name, without their documents.
func (db *DB) Images(ctx context.Context) ([]vm.Image, error) {
	return query(ctx, db, func(r *sql.Rows) (i vm.Image, err error) {
		var created int64
		var config, origin string
		if err = r.Scan(&i.Name, &i.Digest, &i.Path, &i.Bytes, &i.Source, &created, &config, &origin); err != nil {
			return i, err
		}
		i.CreatedAt = timeOf(created)
		if i.Config, err = jsonOf[vm.ImageConfig](config); err != nil {
			return i, err
		}
		i.Origin, err = jsonOf[vm.ImageOrigin](origin)
		return i, err
	}, "SELECT name, digest, path, bytes, source, created_at, config, origin FROM images ORDER BY name")
}

// ImageDocuments returns the documents of an image, or nil if it was not made of an
// OCI image.
func (db *DB) ImageDocuments(ctx context.Context, name string) (*vm.ImageDocuments, error) {
	var docs vm.ImageDocuments
	err := db.sql.QueryRowContext(ctx, "SELECT manifest, oci_config FROM images WHERE name = ?", name).Scan(&docs.Manifest, &docs.Config)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, errs.New(errs.NotFound, "there is no image %q", name).WithHint("banger image list")
	case err != nil:
		return nil, err
	case docs.Manifest == nil:
		return nil, nil
	}
	return &docs, nil
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
