import { ValidateBy, type ValidationArguments } from 'class-validator';

/** Holds when `faultOf` finds nothing; its sentence is the message otherwise. */
export function Faultless(faultOf: (value: unknown) => string | undefined): PropertyDecorator {
  return ValidateBy({
    name: 'faultless',
    validator: {
      validate: (value: unknown) => faultOf(value) === undefined,
      defaultMessage: (checked?: ValidationArguments) => faultOf(checked?.value) ?? '',
    },
  });
}
