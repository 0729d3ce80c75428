// Package respwriter sees what a handler answers: the status, the bytes, and the
// moment before the header goes out.
//
//	type request struct {
//		respwriter.Recorder
//		// …
//	}
//
//	req := &request{}
//	req.Init(w)
//	next.ServeHTTP(req.Wrap(), r)
//	req.Finish() // not after a panic: then net/http sends nothing of its own
//	req.Status() // 200, though the handler wrote nothing
//
// The writer of [Recorder.Wrap] has exactly the optional interfaces that the writer below
// has, so a handler finds what it would find without it: [http.Flusher],
// [http.Hijacker], [http.Pusher], [io.ReaderFrom] (and with it sendfile) and
// [http.CloseNotifier], in each of their 32 combinations; net/http itself uses two,
// one for HTTP/1 and one for HTTP/2. Unwrap is always there, so
// [http.ResponseController] reaches deadlines and full duplex. WriteString and
// FlushError are always there too: io.WriteString and ResponseController.Flush do
// the same with or without them, and a flush stays visible.
//
// Limits. What a handler does after Hijack is not seen: a status line it writes to
// the connection itself leaves Status at 0. A writer reached through Unwrap is not
// seen either, Flush excepted.
package respwriter
