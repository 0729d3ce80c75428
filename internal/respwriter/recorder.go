package respwriter

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
)

// Recorder records the answer to one request. It is made to be a part of a larger
// struct of its request, so that it costs no allocation. The zero value needs
// [Recorder.Init]. As a ResponseWriter it belongs to one request and is not safe
// for concurrent use.
type Recorder struct {
	// BeforeHeader, when it is not nil, is called once, right before the final header
	// goes out, and may change it. The handler's own entries are in it already. It is
	// not called for 1xx, 101 excepted, nor when the connection was taken over before
	// a final header.
	BeforeHeader func(http.Header)

	w        http.ResponseWriter
	bytes    int64
	status   int
	hooked   bool
	hijacked bool
}

// Init makes r a new recorder of what is written to w, and keeps
// BeforeHeader.
func (r *Recorder) Init(w http.ResponseWriter) {
	*r = Recorder{BeforeHeader: r.BeforeHeader, w: w}
}

// Status is the first final status code: 200 when the handler wrote or flushed
// without one, 101 for an upgrade, 0 when nothing was sent. Informational codes
// (100, 102 to 199) are not final.
func (r *Recorder) Status() int { return r.status }

// BytesWritten is the size of the body as the handler wrote it, before any
// transfer coding, in bytes.
func (r *Recorder) BytesWritten() int64 { return r.bytes }

// WroteHeader tells whether a final header went out.
func (r *Recorder) WroteHeader() bool { return r.status != 0 }

// Hijacked tells whether the handler took over the connection.
func (r *Recorder) Hijacked() bool { return r.hijacked }

// Whole tells whether the answer to a request of that method was complete as soon as its
// last byte was written: by its Content-Length, or because it has no body. Then its
// reader may go away before the handler returns, and has missed nothing. Other answers
// end when the handler returns.
func (r *Recorder) Whole(method string) bool {
	switch {
	case r.status == 0 || r.hijacked:
		return false
	case r.status == http.StatusNoContent, r.status == http.StatusNotModified, method == http.MethodHead:
		return true
	}
	n, err := strconv.ParseInt(r.w.Header().Get("Content-Length"), 10, 64)
	return err == nil && r.bytes >= n
}

// Finish does what net/http does when a handler returns: an answer without a
// header becomes a 200. Call it then, and not after a panic, where net/http sends
// nothing.
func (r *Recorder) Finish() { r.implicit() }

func (r *Recorder) hook() {
	if r.hooked {
		return
	}
	r.hooked = true
	if r.BeforeHeader != nil {
		r.BeforeHeader(r.w.Header())
	}
}

func (r *Recorder) writeHeader(code int) {
	informational := code >= 100 && code <= 199 && code != http.StatusSwitchingProtocols
	if informational || r.status != 0 || r.hijacked {
		r.w.WriteHeader(code) // net/http reports a superfluous call with the caller's line
		return
	}
	r.hook()
	r.w.WriteHeader(code) // panics on a code that is none, which then was not sent
	r.status = code
}

// implicit stands before everything that makes net/http send a 200 by itself.
func (r *Recorder) implicit() {
	if r.status == 0 && !r.hijacked {
		r.hook()
		r.status = http.StatusOK
	}
}

func (r *Recorder) write(p []byte) (int, error) {
	r.implicit()
	n, err := r.w.Write(p)
	r.bytes += int64(n)
	return n, err
}

func (r *Recorder) writeString(s string) (int, error) {
	r.implicit()
	n, err := io.WriteString(r.w, s)
	r.bytes += int64(n)
	return n, err
}

// primeLen is what readFrom copies by itself: as little as makes a first byte sure.
const primeLen = 512

// readFrom hands src to the writer below, so that net/http can use sendfile. Where
// no header was sent yet, the first bytes go through write: a source may turn out
// empty, and an empty ReadFrom sends no header.
func (r *Recorder) readFrom(src io.Reader) (n int64, err error) {
	if r.status == 0 {
		n, err = io.CopyN(plain{r}, src, primeLen)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	m, err := r.w.(io.ReaderFrom).ReadFrom(src)
	r.bytes += m
	return n + m, err
}

// plain is a Recorder as nothing but an io.Writer.
type plain struct{ r *Recorder }

func (p plain) Write(b []byte) (int, error) { return p.r.write(b) }

// flushError finds the flusher as http.ResponseController does, so that a flush
// through Unwrap is not missed.
func (r *Recorder) flushError() error {
	for w := r.w; ; {
		switch f := w.(type) {
		case interface{ FlushError() error }:
			r.implicit()
			return f.FlushError()
		case http.Flusher:
			r.implicit()
			f.Flush()
			return nil
		case interface{ Unwrap() http.ResponseWriter }:
			w = f.Unwrap()
		default:
			return http.ErrNotSupported
		}
	}
}

// flush is Flush of http.Flusher, which has no way to report an error.
func (r *Recorder) flush() {
	r.implicit()
	r.w.(http.Flusher).Flush()
}

func (r *Recorder) hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := r.w.(http.Hijacker).Hijack()
	if err == nil {
		r.hijacked = true
	}
	return conn, rw, err
}

func (r *Recorder) push(target string, opts *http.PushOptions) error {
	return r.w.(http.Pusher).Push(target, opts)
}

func (r *Recorder) closeNotify() <-chan bool {
	//lint:ignore SA1019 gin's writer asserts it unchecked
	return r.w.(http.CloseNotifier).CloseNotify()
}
