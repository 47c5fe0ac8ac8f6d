package blobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"

	"banger/internal/base/atomicfile"
	"banger/internal/base/errs"
)

// Put stores the bytes of r, at most limit of them, as a blob, and returns its
// descriptor: with sha256. More bytes are an Invalid error, and whatever goes wrong
// leaves nothing behind. When ctx ends, the caller ends a Read of r that is under
// way.
func (s *Store) Put(ctx context.Context, r io.Reader, limit int64) (Descriptor, error) {
	d, err := s.put(ctx, r, limit)
	switch {
	case err == nil:
		s.enforce()
		return d, nil
	case ctx.Err() != nil:
		return Descriptor{}, ctx.Err()
	case full(err):
		return Descriptor{}, s.tellFull("store a blob", err)
	}
	return Descriptor{}, errs.New(errs.KindOf(err), "cannot store a blob: %w", err)
}

func (s *Store) put(ctx context.Context, r io.Reader, limit int64) (d Descriptor, err error) {
	if err := s.mkdirs(); err != nil {
		return Descriptor{}, err
	}
	f, err := os.CreateTemp(s.spool(), "")
	if err != nil {
		return Descriptor{}, err
	}
	published := false
	defer func() {
		err = errors.Join(err, f.Close())
		if !published {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	sum := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(f, sum), &untilDone{ctx, io.LimitReader(r, min(limit, math.MaxInt64-1)+1)}, make([]byte, chunk))
	if err != nil {
		return Descriptor{}, err
	}
	if n > limit {
		return Descriptor{}, errs.New(errs.Invalid, "it has more than %d bytes", limit)
	}
	if err := f.Sync(); err != nil {
		return Descriptor{}, err
	}
	dg := digest{"sha256", hex.EncodeToString(sum.Sum(nil))}
	sh, err := s.enter(dg)
	if err != nil {
		return Descriptor{}, err
	}
	defer s.leave(dg)
	// What is there already may be damaged: these bytes are known to be right.
	if err := os.Rename(f.Name(), s.blob(dg)); err != nil {
		return Descriptor{}, err
	}
	published = true
	if err := atomicfile.SyncDir(filepath.Dir(s.blob(dg))); err != nil {
		return Descriptor{}, err
	}
	return Descriptor{Digest: dg.String(), Size: n}, s.dropPartial(dg, sh)
}

// untilDone is a reader that ends with its context.
type untilDone struct {
	ctx context.Context //nolint:containedctx // it lives as long as one call
	r   io.Reader
}

func (u *untilDone) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(b)
}
