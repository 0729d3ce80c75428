package exporter

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// maxPEM bounds the files that variables name.
const maxPEM = 4 << 20

var (
	errPEMSize = errors.New("larger than 4 MiB")
	errPEMFile = errors.New("not a regular file")
	errPEMNone = errors.New("no certificate in it")
)

func readFile(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() { // opening a pipe would wait for its writer
		return nil, errPEMFile
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err == nil && len(b) > maxPEM {
		err = errPEMSize
	}
	return b, err
}

// watched is a value made of files, made again when one of them changes. While that
// fails, as when a file is half written, the value before stays. It is safe for
// concurrent use.
type watched[T any] struct {
	paths []string
	read  func(contents [][]byte) (T, error)

	mu     sync.Mutex
	value  T
	stamps []stamp
}

// stamp tells whether a file may have changed.
type stamp struct {
	at   time.Time
	size int64
}

// watch reads the files a first time.
func watch[T any](read func(contents [][]byte) (T, error), paths ...string) (*watched[T], error) {
	w := &watched[T]{paths: paths, read: read}
	err := w.reload(w.look())
	return w, err
}

func (w *watched[T]) look() []stamp {
	stamps := make([]stamp, len(w.paths))
	for i, p := range w.paths {
		if fi, err := os.Stat(p); err == nil {
			stamps[i] = stamp{fi.ModTime(), fi.Size()}
		}
	}
	return stamps
}

func (w *watched[T]) reload(stamps []stamp) error {
	contents := make([][]byte, len(w.paths))
	for i, p := range w.paths {
		b, err := readFile(p)
		if err != nil {
			return err
		}
		contents[i] = b
	}
	v, err := w.read(contents)
	if err == nil {
		w.value, w.stamps = v, stamps
	}
	return err
}

// get returns the value, of the files as they are now.
func (w *watched[T]) get() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	stamps := w.look()
	for i := range stamps {
		if !stamps[i].at.Equal(w.stamps[i].at) || stamps[i].size != w.stamps[i].size {
			_ = w.reload(stamps) // the value before stays, and the next handshake tries again
			break
		}
	}
	return w.value
}

func readPool(contents [][]byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(contents[0]) {
		return nil, errPEMNone
	}
	return pool, nil
}

func readPair(contents [][]byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(contents[0], contents[1])
	return &pair, err
}
