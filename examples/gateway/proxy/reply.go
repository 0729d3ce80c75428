package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/meshtrace/meshtrace/middleware"
)

// The texts of replies are Envoy's, because those who run gateways search for them.
const (
	textNoHost     = "no healthy upstream"
	textTimeout    = "upstream request timeout"
	textFault      = "fault filter abort"
	textRateLimit  = "local_rate_limited"
	textReset      = "upstream connect error or disconnect/reset before headers. reset reason: "
	textRetryReset = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: "
)

// reply answers in the place of an upstream. A gRPC caller gets what it can read: a 200
// with the status in its headers.
func reply(w http.ResponseWriter, r *http.Request, status int, text string) {
	h := w.Header()
	if isGRPC(r) {
		h.Set("Content-Type", "application/grpc")
		h.Set("Grpc-Status", strconv.Itoa(grpcStatus(status)))
		if text != "" {
			h.Set("Grpc-Message", text)
		}
		w.WriteHeader(http.StatusOK)
		return
	}
	if text != "" {
		h.Set("Content-Type", "text/plain")
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		io.WriteString(w, text)
	}
}

func isGRPC(r *http.Request) bool {
	ct := r.Header.Get("Content-Type")
	return ct == "application/grpc" || strings.HasPrefix(ct, "application/grpc+")
}

// grpcStatus is the gRPC code of an HTTP status, as gRPC's specification maps them.
// https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
func grpcStatus(status int) int {
	switch status {
	case http.StatusBadRequest:
		return 13
	case http.StatusUnauthorized:
		return 16
	case http.StatusForbidden:
		return 7
	case http.StatusNotFound:
		return 12
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return 14
	}
	return 2
}

// fail answers a request that got no response from upstream.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	text := textReset
	var retried *retriedError
	if errors.As(err, &retried) {
		text = textRetryReset
	}
	switch reset := middleware.ResetOf(err); {
	case r.Context().Err() != nil:
		// The caller has gone.
	case errors.Is(err, context.DeadlineExceeded):
		reply(w, r, http.StatusGatewayTimeout, textTimeout)
	case reset == middleware.ResetProtocolError:
		reply(w, r, http.StatusBadGateway, text+reset.Error())
	default:
		reply(w, r, http.StatusServiceUnavailable, text+reset.Error())
	}
}
