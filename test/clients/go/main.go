// What a user of the client that openapi-generator's go generates writes. Says on stdout what it saw, as JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"clients/faas"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func problemOf(err error) *faas.Problem {
	failure, ok := err.(*faas.GenericOpenAPIError)
	if !ok {
		panic(fmt.Sprint("no problem but ", err))
	}
	problem, ok := failure.Model().(faas.Problem)
	if !ok {
		panic(fmt.Sprint("no problem but ", string(failure.Body())))
	}
	return &problem
}

func main() {
	url, key, handler := os.Args[1], os.Args[2], os.Args[3]
	var payloads []string
	check(json.Unmarshal([]byte(os.Args[4]), &payloads))
	configuration := faas.NewConfiguration()
	configuration.Servers = faas.ServerConfigurations{{URL: url}}
	client := faas.NewAPIClient(configuration)
	ctx := context.WithValue(context.Background(), faas.ContextAPIKeys, map[string]faas.APIKey{"api_key": {Key: key}})

	file, err := os.Open(handler)
	check(err)
	added, _, err := client.FunctionsAPI.AddFunction(ctx).PythonFile(file).FunctionName("handle").Concurrency(4).Execute()
	check(err)

	results := []interface{}{}
	for _, payload := range payloads {
		request := *faas.NewExecuteRequestDto(payload)
		answer, _, err := client.ExecutionAPI.ExecuteFunction(ctx, added.Id).ExecuteRequestDto(request).Execute()
		check(err)
		results = append(results, answer.Result)
	}
	request := *faas.NewExecuteRequestDto("raise")
	_, _, err = client.ExecutionAPI.ExecuteFunction(ctx, added.Id).ExecuteRequestDto(request).Execute()
	raised := problemOf(err)
	detail, _, err := client.FunctionsAPI.GetFunction(ctx, added.Id).Execute()
	check(err)
	listed, _, err := client.FunctionsAPI.ListFunctions(ctx).Limit(10).Execute()
	check(err)
	names := []string{}
	for _, one := range listed {
		names = append(names, one.FunctionName)
	}
	_, removed, err := client.FunctionsAPI.RemoveFunction(ctx, added.Id).Execute()
	check(err)
	_, _, err = client.FunctionsAPI.GetFunction(ctx, added.Id).Execute()
	missing := problemOf(err)
	empty, err := os.Open(os.DevNull)
	check(err)
	_, _, err = client.FunctionsAPI.AddFunction(ctx).PythonFile(empty).FunctionName("f").Execute()
	invalid := problemOf(err)

	check(json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"status":      added.Status,
		"concurrency": added.Concurrency,
		"results":     results,
		"raised": map[string]interface{}{
			"status":         raised.Status,
			"code":           raised.Code,
			"python_type":    raised.GetPythonType(),
			"python_message": raised.GetPythonMessage(),
		},
		"detail":  map[string]interface{}{"last_error": detail.LastError.Get(), "max_replicas": detail.MaxReplicas.Get()},
		"listed":  names,
		"removed": removed.StatusCode,
		"missing": missing.Code,
		"invalid": map[string]interface{}{"code": invalid.Code, "field": invalid.GetField()},
	}))
}
