package ext4

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"banger/ext4/internal/disk"
)

// Layers adds the layers of an OCI image, the lowest first: tars as Tar takes them, in
// which whiteouts remove what lower layers have (the image specification,
// layer.md). Bytes of files that a later layer removed are not in the image.
//
// Layers are read at the same time, as many as there are processors but at most four, so
// that readers which decompress run beside one another. The result does not depend on
// that. After an error Layers returns once every Read that is under way has.
func (b *Builder) Layers(layers ...io.Reader) error {
	if b.err != nil {
		return b.err
	}
	turns := make([]chan struct{}, len(layers)+1)
	for i := range turns {
		turns[i] = make(chan struct{})
	}
	var (
		group   sync.WaitGroup
		begun   = make(chan struct{}, maxAhead)
		reading = make(chan struct{}, min(runtime.GOMAXPROCS(0), maxAhead))
		failed  = make(chan struct{})
		once    sync.Once
		cause   error
	)
	fail := func(err error) { once.Do(func() { cause = err; close(failed) }) }
	if len(layers) > 0 {
		close(turns[0])
	}
start:
	for i, r := range layers {
		for _, slots := range []chan struct{}{begun, reading} {
			select { // in order, so that the layer whose turn it is always runs
			case slots <- struct{}{}:
			case <-failed:
				break start
			}
		}
		group.Go(func() {
			defer func() { <-begun }()
			l := &layerReader{b: b, turn: turns[i], failed: failed, far: farBlock + uint64(i%maxAhead)*farStride}
			l.read = sync.OnceFunc(func() { <-reading })
			defer l.read()
			if err := l.run(r); err != nil {
				if len(layers) > 1 && !errors.Is(err, errOtherLayer) {
					err = fmt.Errorf("layer %d: %w", i+1, err)
				}
				fail(err)
				return
			}
			close(turns[i+1])
		})
	}
	group.Wait()
	if cause == nil && len(layers) > 0 {
		// What lay far away has been moved.
		cause = b.f.Truncate(max(b.opts.Size, int64(b.space.next*blockSize)))
	}
	return b.fail(cause)
}

// maxAhead bounds how many layers are being read, or have been and wait for their turn:
// each has some megabytes of buffers.
const maxAhead = 4

// A layer that is read before its turn keeps its data far behind the image, in one of
// maxAhead places, until the place of what comes before it is known. So where data
// ends up does not depend on which layer was fast. As layers end in order, those that
// are read at the same time follow one another, and no two have the same place. All
// are within the 16 TiB that a file of the host's ext4 can have.
const (
	farBlock  = 1 << 40 / blockSize
	farStride = 1 << 36 / blockSize
)

var errOtherLayer = errors.New("another layer has failed")

// layerReader reads one layer. Tree and space are its own only in its turn.
type layerReader struct {
	b      *Builder
	turn   <-chan struct{}
	failed <-chan struct{}
	far    uint64
	next   uint64 // the next far block
	ahead  []record
	stage  stage
	mine   bool   // whether its turn has come
	read   func() // says that all of it is read
}

func (l *layerReader) run(r io.Reader) error {
	l.stage.f = l.b.f
	l.next = l.far
	in := newIntake(r, &l.stage, l.take, l.b.charge)
	defer in.t.Close()
	for {
		if err := l.poll(); err != nil {
			return err
		}
		rec, err := in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if rec == nil {
			continue
		}
		if !l.mine {
			l.ahead = append(l.ahead, *rec)
			continue
		}
		if err := l.b.entry(rec); err != nil {
			return err
		}
	}
	l.read()
	if !l.mine {
		select {
		case <-l.turn:
		case <-l.failed:
			return errOtherLayer
		}
		if err := l.settle(); err != nil {
			return err
		}
	}
	if err := l.stage.flush(); err != nil {
		return err
	}
	return l.b.end()
}

// poll looks whether the layer's turn has come.
func (l *layerReader) poll() error {
	select {
	case <-l.failed:
		return errOtherLayer
	default:
	}
	if l.mine {
		return nil
	}
	select {
	case <-l.turn:
		return l.settle()
	default:
		return nil
	}
}

func (l *layerReader) take(n uint64) (span, error) {
	if l.mine {
		return l.b.space.take(n)
	}
	if l.next+n > l.far+farStride {
		return span{}, errors.New("a layer of more than 64 GiB")
	}
	got := span{l.next, l.next + n}
	l.next += n
	return got, nil
}

// settle begins the layer's turn: what it has read ahead gets its place.
func (l *layerReader) settle() error {
	l.mine = true
	l.b.begin(true)
	if err := l.stage.flush(); err != nil {
		return err
	}
	m := mover{f: l.b.f, stage: &l.stage}
	for i := range l.ahead {
		r := &l.ahead[i]
		if r.node != nil {
			if err := m.move(r.node, l.b.space.take); err != nil {
				return err
			}
		}
		if err := l.b.entry(r); err != nil {
			return err
		}
		*r = record{}
	}
	l.ahead = nil
	if err := m.flush(); err != nil {
		return err
	}
	if l.next == l.far {
		return nil
	}
	return punch(l.b.f, int64(l.far*blockSize), int64((l.next-l.far)*blockSize))
}

// mover copies data to new places, many files at once where both the old and the
// new ones follow one another.
type mover struct {
	f        File
	stage    *stage
	from, to uint64 // blocks
	n        uint64 // blocks to copy from there
	buf      []byte
}

// move gives the contents of a node new blocks.
func (m *mover) move(n *node, take func(uint64) (span, error)) error {
	var extents []disk.Extent
	var err error
	n.eachExtent(func(e disk.Extent) {
		for e.Len > 0 && err == nil {
			var got span
			if got, err = take(uint64(e.Len)); err != nil {
				return
			}
			part := uint32(got.len())
			if err = m.copy(e.Physical, got); err != nil {
				return
			}
			extents = append(extents, disk.Extent{Logical: e.Logical, Len: part, Physical: got.start})
			e.Logical, e.Physical, e.Len = e.Logical+part, e.Physical+uint64(part), e.Len-part
		}
	})
	if err != nil || len(extents) == 0 {
		return err
	}
	n.start, n.blocks = 0, 0
	if n.more != nil {
		n.more.extents = nil
	}
	if len(extents) == 1 && extents[0].Logical == 0 {
		n.start, n.blocks = extents[0].Physical, extents[0].Len
	} else {
		n.rest().extents = extents
	}
	return nil
}

func (m *mover) copy(from uint64, to span) error {
	if m.n > 0 && m.from+m.n == from && m.to+m.n == to.start {
		m.n += to.len()
		return nil
	}
	if err := m.flush(); err != nil {
		return err
	}
	m.from, m.to, m.n = from, to.start, to.len()
	return nil
}

func (m *mover) flush() error {
	if m.buf == nil && m.n > 0 {
		m.buf = make([]byte, stageSize)
	}
	for m.n > 0 {
		n := min(m.n, stageSize/blockSize)
		b := m.buf[:n*blockSize]
		// The end of the last file's last block may lie behind the end of the file.
		got, err := m.f.ReadAt(b, int64(m.from*blockSize))
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		clear(b[got:])
		if _, err := m.f.WriteAt(b, int64(m.to*blockSize)); err != nil {
			return err
		}
		m.from, m.to, m.n = m.from+n, m.to+n, m.n-n
	}
	return nil
}
