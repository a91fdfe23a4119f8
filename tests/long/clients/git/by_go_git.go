// go-git: by_go_git ACT URL FOLDER [WORD…]. Credentials are in the URL.
package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/go-git/go-git"
	"github.com/go-git/go-git/config"
)

func specs(words []string) []config.RefSpec {
	var found []config.RefSpec
	for _, word := range words {
		found = append(found, config.RefSpec(word))
	}
	return found
}

func run() error {
	act, url, folder, words := os.Args[1], os.Args[2], os.Args[3], os.Args[4:]
	if act == "clone" {
		depth := 0
		if len(words) > 0 {
			depth, _ = strconv.Atoi(words[0])
		}
		repository, err := git.PlainInit(folder, true)
		if err != nil {
			return err
		}
		_, err = repository.CreateRemote(&config.RemoteConfig{Name: "origin", URLs: []string{url}})
		if err != nil {
			return err
		}
		all := []config.RefSpec{"+refs/heads/*:refs/heads/*"}
		return repository.Fetch(&git.FetchOptions{RefSpecs: all, Depth: depth, Tags: git.AllTags, Progress: os.Stderr})
	}
	repository, err := git.PlainOpen(folder)
	if err != nil {
		return err
	}
	remote, err := repository.CreateRemoteAnonymous(&config.RemoteConfig{Name: "anonymous", URLs: []string{url}})
	if err != nil {
		return err
	}
	if act == "fetch" {
		return remote.Fetch(&git.FetchOptions{RefSpecs: specs(words), Tags: git.AllTags, Progress: os.Stderr})
	}
	return remote.Push(&git.PushOptions{RemoteName: "anonymous", RefSpecs: specs(words), Progress: os.Stderr})
}

func main() {
	if err := run(); err != nil && err != git.NoErrAlreadyUpToDate {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
