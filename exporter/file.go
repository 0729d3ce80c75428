package exporter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// JSONLines returns a Sender that writes each request to w as one line of OTLP/JSON, the
// form of OpenTelemetry's "OTLP File Exporter", which a Collector's otlpjsonfile receiver
// reads:
//
//	exp, err := exporter.New(exporter.Config{Sender: exporter.JSONLines(os.Stdout)})
//
// Each line is one Write, and those are serial. A line has at most 1 MiB, which is what
// the Collector reads, unless one span alone is larger. When w fails the spans are kept
// and written again; what w took of a line before it failed is ended by a line break
// first. Close does not close w.
func JSONLines(w io.Writer) Sender { return &lineSender{w: w, name: "the writer of JSONLines"} }

// maxLineBytes is what the Collector's receivers of files read of a line by default.
const maxLineBytes = 1 << 20

// lineSender writes OTLP/JSON lines.
type lineSender struct {
	name string
	path string // of a file that is opened when it is needed; "": w stays

	mu   sync.Mutex
	w    io.Writer
	file *os.File
	line []byte
	torn bool // the last Write ended within a line
}

// newFile returns the Sender for an endpoint that is a file.
func newFile(s *settings) Sender { return &lineSender{path: s.file, name: s.target.name} }

func (s *lineSender) Send(_ context.Context, request []byte, spans int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line, err := otlpwire.AppendJSON(s.line[:0], request)
	if s.line = line; err != nil || len(line) >= maxLineBytes && spans > 1 {
		return 0, tooLargeAsJSON(len(line), err)
	}
	s.line = append(s.line, '\n')
	if err := s.open(); err != nil {
		return 0, s.failed(err)
	}
	if s.torn {
		if _, err := s.w.Write([]byte{'\n'}); err != nil {
			return 0, s.failed(err)
		}
		s.torn = false
	}
	n, err := s.w.Write(s.line)
	if err == nil && n < len(s.line) {
		err = io.ErrShortWrite
	}
	if cap(s.line) > keepRequest {
		s.line = nil
	}
	if err != nil {
		s.torn = n > 0
		return 0, s.failed(err)
	}
	return 0, nil
}

// open opens the file, again where another one or none has its name now: whoever
// rotates files moves them away.
func (s *lineSender) open() error {
	if s.path == "" {
		return nil
	}
	if s.file != nil {
		named, err := os.Stat(s.path)
		ours, err2 := s.file.Stat()
		if err == nil && err2 == nil && os.SameFile(named, ours) {
			return nil
		}
		s.file.Close()
		s.file, s.w, s.torn = nil, nil, false
	}
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600) // spans may hold what is not for everybody
	if err != nil {
		return err
	}
	s.file, s.w, s.torn = f, f, endsTorn(s.path)
	return nil
}

// endsTorn reports whether a file does not end with a line break: whoever wrote it
// was stopped.
func endsTorn(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || fi.Size() == 0 {
		return false
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], fi.Size()-1)
	return err == nil && last[0] != '\n'
}

// failed makes an error of one of w's: the spans are kept until it is put right.
func (s *lineSender) failed(err error) *SendError {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	e := &SendError{Retry: true, kind: kindFile, Err: fmt.Errorf("%s: %w", s.name, err)}
	if s.path != "" {
		e.Advice = "make it writable, or give another file or an address as endpoint"
	}
	return e
}

func (s *lineSender) probe(context.Context) *SendError {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(); err != nil {
		return s.failed(err)
	}
	return nil
}

func (s *lineSender) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file, s.w = nil, nil
	return err
}
