package span

// SecretParameters returns the query parameters whose values are written as REDACTED
// in url.full and url.query: those that hold the signatures and credentials of signed
// URLs. The names are case-sensitive, and the slice is the caller's. Semantic
// conventions, "HTTP spans" and "URL", where a later version names the last two.
//
//	middleware.Config{SecretParameters: append(span.SecretParameters(), "token")}
func SecretParameters() []string {
	return []string{
		"X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "sig", "X-Goog-Signature",
		"AWSAccessKeyId", "Signature",
	}
}
