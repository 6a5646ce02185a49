/**
 * gRPC server reflection (grpc/doc/server-reflection.md) from descriptors that were prepared when the code was generated. v1 and
 * v1alpha are the same on the wire.
 */
import { type DescriptorFile, descriptorFiles } from '../gen/descriptors.ts';
import type {
  ServerReflectionRequest,
  ServerReflectionResponse,
} from '../gen/grpc/reflection/v1/reflection.ts';

const NOT_FOUND = 5;
const UNIMPLEMENTED = 12;

const byName = new Map<string, DescriptorFile>();
const bySymbol = new Map<string, DescriptorFile>();
for (const file of descriptorFiles) {
  byName.set(file.name, file);
  for (const symbol of file.symbols) bySymbol.set(symbol, file);
}

type Answer = NonNullable<ServerReflectionResponse['messageResponse']>;

/** `services`: full names of what the server serves. */
export function reflect(
  request: ServerReflectionRequest,
  services: readonly string[],
): ServerReflectionResponse {
  return {
    validHost: request.host,
    originalRequest: request,
    messageResponse: answer(request.messageRequest, services),
  };
}

function answer(question: ServerReflectionRequest['messageRequest'], services: readonly string[]): Answer {
  switch (question?.$case) {
    case 'listServices':
      return {
        $case: 'listServicesResponse',
        value: { service: services.map((name) => ({ name })) },
      };
    case 'fileByFilename':
      return files(byName.get(question.value), `file ${question.value}`);
    case 'fileContainingSymbol':
      return files(fileOfSymbol(question.value), `symbol ${question.value}`);
    case 'fileContainingExtension':
      return failure(
        NOT_FOUND,
        `extension ${question.value.extensionNumber} of ${question.value.containingType}: not found`,
      );
    case 'allExtensionNumbersOfType':
      // proto3 has no extensions.
      return bySymbol.has(question.value)
        ? {
            $case: 'allExtensionNumbersResponse',
            value: { baseTypeName: question.value, extensionNumber: [] },
          }
        : failure(NOT_FOUND, `type ${question.value}: not found`);
    case undefined:
      return failure(UNIMPLEMENTED, 'a question of a newer protocol');
  }
}

/** Also of a method, field or enum value, whose names end in a part that the table does not have. */
function fileOfSymbol(symbol: string): DescriptorFile | undefined {
  return bySymbol.get(symbol) ?? bySymbol.get(symbol.slice(0, Math.max(symbol.lastIndexOf('.'), 0)));
}

function files(file: DescriptorFile | undefined, what: string): Answer {
  if (file === undefined) return failure(NOT_FOUND, `${what}: not found`);
  const needed = new Set<DescriptorFile>([file]);
  // A set may grow while it is walked: what is imported by the imported comes too.
  for (const { imports } of needed) {
    for (const name of imports) {
      const imported = byName.get(name);
      if (imported !== undefined) needed.add(imported);
    }
  }
  return {
    $case: 'fileDescriptorResponse',
    value: {
      fileDescriptorProto: [...needed].map(({ descriptor }) => Buffer.from(descriptor, 'base64')),
    },
  };
}

function failure(errorCode: number, errorMessage: string): Answer {
  return { $case: 'errorResponse', value: { errorCode, errorMessage } };
}
