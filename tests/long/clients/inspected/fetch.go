// Go's net/http: GETs URL, or PUTs the file UPLOAD to it. The proxy comes from HTTPS_PROXY, the authorities from SSL_CERT_FILE.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	if err := ask(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func ask() error {
	request, err := http.NewRequest(http.MethodGet, os.Getenv("URL"), nil)
	if upload := os.Getenv("UPLOAD"); err == nil && upload != "" {
		var body *os.File
		if body, err = os.Open(upload); err != nil {
			return err
		}
		if request, err = http.NewRequest(http.MethodPut, os.Getenv("URL"), body); err == nil {
			stat, _ := body.Stat()
			request.ContentLength = stat.Size()
		}
	}
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", answer.Status)
	}
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}
