// Package statedb keeps the daemon's records in SQLite: VMs, images, kernels, and
// the journal of operations under way. It decides nothing beyond what must be
// decided within one transaction.
//
// Every method commits before it returns nil, durably (synchronous=FULL).
package statedb

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"banger/internal/base/errs"
)

//go:embed migrations/*.sql
var migrations embed.FS

// DB is the open database. Its methods may be called from many goroutines.
type DB struct {
	sql *sql.DB
}

// Open opens the database at path, or makes it, mode 0600, and brings its schema
// up to date. A damaged database and one of a newer banger are refused, unchanged.
func Open(ctx context.Context, path string) (*DB, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "cannot open the database: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	pool, err := sql.Open("sqlite", "file:"+strings.NewReplacer("?", "%3f", "#", "%23", "%", "%25").Replace(path)+
		"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	// One connection: SQLite has one writer, and the records are few.
	pool.SetMaxOpenConns(1)
	db := &DB{pool}
	if err := db.prepare(ctx); err != nil {
		return nil, errors.Join(damaged(path, err), pool.Close())
	}
	return db, nil
}

// damaged adds what a user can do about a database that cannot be used.
func damaged(path string, err error) error {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return errs.New(errs.Unavailable, "the database %q is damaged: %w", path, err).
				WithHint("restore it from a backup, or move it away (mv '%s' '%s.damaged'): VM disks stay in the vms folder beside it", path, path)
		case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR:
			return errs.New(errs.Unavailable, "cannot write the database %q: %w", path, err).WithHint("free space on its file system")
		}
	}
	return fmt.Errorf("cannot use the database %q: %w", path, err)
}

// Close closes the database.
func (db *DB) Close() error { return db.sql.Close() }

// prepare checks the file and runs the migrations that it lacks. The number of
// migrations that have run is SQLite's user_version.
func (db *DB) prepare(ctx context.Context) error {
	var verdict string
	if err := db.sql.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return errs.New(errs.Unavailable, "it is damaged: %s", verdict).WithHint("restore it from a backup, or move it away: VM disks stay in the vms folder beside it")
	}
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	return db.tx(ctx, func(tx *sql.Tx) error {
		var done int
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&done); err != nil {
			return err
		}
		if done > len(names) {
			return errs.New(errs.Unavailable, "it was written by a newer banger (schema %d, this one knows %d)", done, len(names)).
				WithHint("use the newer banger, or another XDG_STATE_HOME")
		}
		for _, name := range names[done:] {
			text, err := migrations.ReadFile(name)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, string(text)); err != nil {
				return fmt.Errorf("migration %s: %w", name, err)
			}
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version=%d", len(names)))
		return err
	})
}

// tx runs fn in one transaction.
func (db *DB) tx(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := db.sql.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// query collects the rows of a query through scan.
func query[T any](ctx context.Context, db *DB, scan func(*sql.Rows) (T, error), text string, args ...any) (all []T, err error) {
	rows, err := db.sql.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

// nanos and timeOf store a time; the zero time is 0.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func timeOf(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}
