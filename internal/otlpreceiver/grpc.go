package otlpreceiver

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// A gRPC message stands behind a flag byte, 1 for compressed, and its length in four
// ("gRPC over HTTP2", Length-Prefixed-Message).
const (
	prefixLen      = 5
	flagCompressed = 1
)

func (h *Handler) serveGRPC(w http.ResponseWriter, r *http.Request, media string) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Grpc-Accept-Encoding", "gzip")
	var (
		message []byte
		refusal *Refusal
	)
	switch {
	case r.URL.Path != GRPCPath || r.Method != http.MethodPost:
		refusal = &Refusal{Code: Unimplemented, Message: fmt.Sprintf("no method %.200q: this is an OTLP trace receiver", r.URL.Path)}
	case media != "application/grpc" && media != "application/grpc+proto":
		refusal = &Refusal{Code: Unimplemented, Message: fmt.Sprintf("content-type %.40q: this receiver takes application/grpc", media)}
	default:
		if message, refusal = h.readGRPC(r); refusal == nil {
			message, refusal = h.accept(message)
		}
	}
	if refusal != nil {
		// Trailers-Only: no body follows, so that the header block ends the stream.
		setStatus(w.Header(), refusal)
		return
	}
	var prefix [prefixLen]byte
	binary.BigEndian.PutUint32(prefix[1:], uint32(len(message)))
	if _, err := w.Write(prefix[:]); err != nil {
		return
	}
	if _, err := w.Write(message); err != nil {
		return
	}
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
}

// readGRPC returns the one message of a unary call, decompressed.
func (h *Handler) readGRPC(r *http.Request) ([]byte, *Refusal) {
	limit := h.maxBytes()
	var prefix [prefixLen]byte
	if _, err := io.ReadFull(r.Body, prefix[:]); err != nil {
		return nil, broken("call without a message: " + err.Error())
	}
	n := int64(binary.BigEndian.Uint32(prefix[1:]))
	if n > limit {
		return nil, unreadable(errTooLarge, limit)
	}
	b, err := readAll(io.LimitReader(r.Body, n), n)
	switch {
	case err != nil:
		return nil, broken("message cannot be read: " + err.Error())
	case int64(len(b)) < n:
		return nil, broken(fmt.Sprintf("message of %d bytes ends after %d", n, len(b)))
	}
	if _, err := io.ReadFull(r.Body, prefix[:1]); err != io.EOF {
		return nil, broken("unary call with more than one message")
	}
	switch encoding := r.Header.Get("Grpc-Encoding"); {
	case prefix[0] == 0:
		return b, nil
	case prefix[0] != flagCompressed:
		return nil, broken(fmt.Sprintf("message with flags %#x", prefix[0]))
	case encoding == "gzip":
		return gunzip(b, limit)
	default:
		return nil, &Refusal{Code: Unimplemented, Message: fmt.Sprintf("grpc-encoding %.40q: this receiver takes gzip", encoding)}
	}
}

func gunzip(b []byte, limit int64) ([]byte, *Refusal) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, unreadable(err, limit)
	}
	out, err := readAll(z, limit)
	if err != nil {
		return nil, unreadable(err, limit)
	}
	return out, nil
}

func broken(text string) *Refusal { return &Refusal{Code: Internal, Message: text} }

// setStatus sets the status of a failed call.
func setStatus(h http.Header, r *Refusal) {
	h.Set("Grpc-Status", strconv.Itoa(int(r.Code)))
	h.Set("Grpc-Message", percentEncode(r.Message))
	if r.RetryAfter > 0 {
		h.Set("Grpc-Status-Details-Bin", base64.RawStdEncoding.EncodeToString(statusOf(r)))
	}
}

// percentEncode encodes a grpc-message, cut at 1 KiB ("gRPC over HTTP2", Percent-Byte).
func percentEncode(s string) string {
	s = s[:min(len(s), 1<<10)]
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			b = fmt.Appendf(b, "%%%02X", c)
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}
