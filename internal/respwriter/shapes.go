package respwriter

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// Wrap returns the writer to hand to the handler: r as an [http.ResponseWriter]
// with exactly the optional interfaces of the writer that r was initialised with.
// It does not allocate.
func (r *Recorder) Wrap() http.ResponseWriter {
	return shapes[optional(r.w)](writer{r})
}

// The optional interfaces, one bit each.
const (
	closeNotifier = 1 << iota
	flusher
	hijacker
	pusher
	readerFrom
)

func optional(w http.ResponseWriter) (set uint) {
	//lint:ignore SA1019 gin's writer asserts it unchecked
	if _, ok := w.(http.CloseNotifier); ok {
		set |= closeNotifier
	}
	if _, ok := w.(http.Flusher); ok {
		set |= flusher
	}
	if _, ok := w.(http.Hijacker); ok {
		set |= hijacker
	}
	if _, ok := w.(http.Pusher); ok {
		set |= pusher
	}
	if _, ok := w.(io.ReaderFrom); ok {
		set |= readerFrom
	}
	return set
}

// writer has what every shape has. It is one pointer, and so are the shapes
// around it: that is why none of them allocates as an interface.
type writer struct{ rec *Recorder }

func (w writer) Header() http.Header               { return w.rec.w.Header() }
func (w writer) WriteHeader(code int)              { w.rec.writeHeader(code) }
func (w writer) Write(p []byte) (int, error)       { return w.rec.write(p) }
func (w writer) WriteString(s string) (int, error) { return w.rec.writeString(s) }
func (w writer) FlushError() error                 { return w.rec.flushError() }
func (w writer) Unwrap() http.ResponseWriter       { return w.rec.w }

// The shapes, named by their interfaces after the w: c CloseNotifier, f Flusher,
// h Hijacker, p Pusher, r ReaderFrom. Each embeds the shape without its last letter
// and adds that one method. HTTP/1 of net/http is wcfhr, HTTP/2 is wcfp.
type (
	wc     struct{ writer }
	wf     struct{ writer }
	wh     struct{ writer }
	wp     struct{ writer }
	wr     struct{ writer }
	wcf    struct{ wc }
	wch    struct{ wc }
	wcp    struct{ wc }
	wcr    struct{ wc }
	wfh    struct{ wf }
	wfp    struct{ wf }
	wfr    struct{ wf }
	whp    struct{ wh }
	whr    struct{ wh }
	wpr    struct{ wp }
	wcfh   struct{ wcf }
	wcfp   struct{ wcf }
	wcfr   struct{ wcf }
	wchp   struct{ wch }
	wchr   struct{ wch }
	wcpr   struct{ wcp }
	wfhp   struct{ wfh }
	wfhr   struct{ wfh }
	wfpr   struct{ wfp }
	whpr   struct{ whp }
	wcfhp  struct{ wcfh }
	wcfhr  struct{ wcfh }
	wcfpr  struct{ wcfp }
	wchpr  struct{ wchp }
	wfhpr  struct{ wfhp }
	wcfhpr struct{ wcfhp }
)

func (w wc) CloseNotify() <-chan bool { return w.rec.closeNotify() }

func (w wf) Flush()  { w.rec.flush() }
func (w wcf) Flush() { w.rec.flush() }

func (w wh) Hijack() (net.Conn, *bufio.ReadWriter, error)   { return w.rec.hijack() }
func (w wch) Hijack() (net.Conn, *bufio.ReadWriter, error)  { return w.rec.hijack() }
func (w wfh) Hijack() (net.Conn, *bufio.ReadWriter, error)  { return w.rec.hijack() }
func (w wcfh) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.rec.hijack() }

func (w wp) Push(t string, o *http.PushOptions) error    { return w.rec.push(t, o) }
func (w wcp) Push(t string, o *http.PushOptions) error   { return w.rec.push(t, o) }
func (w wfp) Push(t string, o *http.PushOptions) error   { return w.rec.push(t, o) }
func (w whp) Push(t string, o *http.PushOptions) error   { return w.rec.push(t, o) }
func (w wcfp) Push(t string, o *http.PushOptions) error  { return w.rec.push(t, o) }
func (w wchp) Push(t string, o *http.PushOptions) error  { return w.rec.push(t, o) }
func (w wfhp) Push(t string, o *http.PushOptions) error  { return w.rec.push(t, o) }
func (w wcfhp) Push(t string, o *http.PushOptions) error { return w.rec.push(t, o) }

func (w wr) ReadFrom(src io.Reader) (int64, error)     { return w.rec.readFrom(src) }
func (w wcr) ReadFrom(src io.Reader) (int64, error)    { return w.rec.readFrom(src) }
func (w wfr) ReadFrom(src io.Reader) (int64, error)    { return w.rec.readFrom(src) }
func (w whr) ReadFrom(src io.Reader) (int64, error)    { return w.rec.readFrom(src) }
func (w wpr) ReadFrom(src io.Reader) (int64, error)    { return w.rec.readFrom(src) }
func (w wcfr) ReadFrom(src io.Reader) (int64, error)   { return w.rec.readFrom(src) }
func (w wchr) ReadFrom(src io.Reader) (int64, error)   { return w.rec.readFrom(src) }
func (w wcpr) ReadFrom(src io.Reader) (int64, error)   { return w.rec.readFrom(src) }
func (w wfhr) ReadFrom(src io.Reader) (int64, error)   { return w.rec.readFrom(src) }
func (w wfpr) ReadFrom(src io.Reader) (int64, error)   { return w.rec.readFrom(src) }
func (w whpr) ReadFrom(src io.Reader) (int64, error)   { return w.rec.readFrom(src) }
func (w wcfhr) ReadFrom(src io.Reader) (int64, error)  { return w.rec.readFrom(src) }
func (w wcfpr) ReadFrom(src io.Reader) (int64, error)  { return w.rec.readFrom(src) }
func (w wchpr) ReadFrom(src io.Reader) (int64, error)  { return w.rec.readFrom(src) }
func (w wfhpr) ReadFrom(src io.Reader) (int64, error)  { return w.rec.readFrom(src) }
func (w wcfhpr) ReadFrom(src io.Reader) (int64, error) { return w.rec.readFrom(src) }

// shapes holds the constructors of the shapes by their set of interfaces.
var shapes = [...]func(writer) http.ResponseWriter{
	0:                                               func(w writer) http.ResponseWriter { return w },
	closeNotifier:                                   func(w writer) http.ResponseWriter { return wc{w} },
	flusher:                                         func(w writer) http.ResponseWriter { return wf{w} },
	hijacker:                                        func(w writer) http.ResponseWriter { return wh{w} },
	pusher:                                          func(w writer) http.ResponseWriter { return wp{w} },
	readerFrom:                                      func(w writer) http.ResponseWriter { return wr{w} },
	closeNotifier | flusher:                         func(w writer) http.ResponseWriter { return wcf{wc{w}} },
	closeNotifier | hijacker:                        func(w writer) http.ResponseWriter { return wch{wc{w}} },
	closeNotifier | pusher:                          func(w writer) http.ResponseWriter { return wcp{wc{w}} },
	closeNotifier | readerFrom:                      func(w writer) http.ResponseWriter { return wcr{wc{w}} },
	flusher | hijacker:                              func(w writer) http.ResponseWriter { return wfh{wf{w}} },
	flusher | pusher:                                func(w writer) http.ResponseWriter { return wfp{wf{w}} },
	flusher | readerFrom:                            func(w writer) http.ResponseWriter { return wfr{wf{w}} },
	hijacker | pusher:                               func(w writer) http.ResponseWriter { return whp{wh{w}} },
	hijacker | readerFrom:                           func(w writer) http.ResponseWriter { return whr{wh{w}} },
	pusher | readerFrom:                             func(w writer) http.ResponseWriter { return wpr{wp{w}} },
	closeNotifier | flusher | hijacker:              func(w writer) http.ResponseWriter { return wcfh{wcf{wc{w}}} },
	closeNotifier | flusher | pusher:                func(w writer) http.ResponseWriter { return wcfp{wcf{wc{w}}} },
	closeNotifier | flusher | readerFrom:            func(w writer) http.ResponseWriter { return wcfr{wcf{wc{w}}} },
	closeNotifier | hijacker | pusher:               func(w writer) http.ResponseWriter { return wchp{wch{wc{w}}} },
	closeNotifier | hijacker | readerFrom:           func(w writer) http.ResponseWriter { return wchr{wch{wc{w}}} },
	closeNotifier | pusher | readerFrom:             func(w writer) http.ResponseWriter { return wcpr{wcp{wc{w}}} },
	flusher | hijacker | pusher:                     func(w writer) http.ResponseWriter { return wfhp{wfh{wf{w}}} },
	flusher | hijacker | readerFrom:                 func(w writer) http.ResponseWriter { return wfhr{wfh{wf{w}}} },
	flusher | pusher | readerFrom:                   func(w writer) http.ResponseWriter { return wfpr{wfp{wf{w}}} },
	hijacker | pusher | readerFrom:                  func(w writer) http.ResponseWriter { return whpr{whp{wh{w}}} },
	closeNotifier | flusher | hijacker | pusher:     func(w writer) http.ResponseWriter { return wcfhp{wcfh{wcf{wc{w}}}} },
	closeNotifier | flusher | hijacker | readerFrom: func(w writer) http.ResponseWriter { return wcfhr{wcfh{wcf{wc{w}}}} },
	closeNotifier | flusher | pusher | readerFrom:   func(w writer) http.ResponseWriter { return wcfpr{wcfp{wcf{wc{w}}}} },
	closeNotifier | hijacker | pusher | readerFrom:  func(w writer) http.ResponseWriter { return wchpr{wchp{wch{wc{w}}}} },
	flusher | hijacker | pusher | readerFrom:        func(w writer) http.ResponseWriter { return wfhpr{wfhp{wfh{wf{w}}}} },
	closeNotifier | flusher | hijacker | pusher | readerFrom: func(w writer) http.ResponseWriter { return wcfhpr{wcfhp{wcfh{wcf{wc{w}}}}} },
}
